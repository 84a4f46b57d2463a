// Kernels as a code generator would write them, each with one thing that can go wrong: barriers, ragged edges,
// padded tiles, vector accesses, shuffles, libdevice, dynamic shared memory, tensor cores, half precision.
#define KERNEL __attribute__((nvptx_kernel)) void
#define SHARED __attribute__((address_space(3)))
#define GLOBAL __attribute__((address_space(1)))
#define TID __nvvm_read_ptx_sreg_tid_x()
#define TIDY __nvvm_read_ptx_sreg_tid_y()
#define CTA __nvvm_read_ptx_sreg_ctaid_x()
#define CTAY __nvvm_read_ptx_sreg_ctaid_y()
#define NTID __nvvm_read_ptx_sreg_ntid_x()
#define BARRIER __nvvm_bar_sync(0)
typedef float float4 __attribute__((vector_size(16)));
float __nv_tanhf(float), __nv_expf(float), __nv_erff(float), __nv_logf(float), __nv_sinf(float);
double __nv_exp(double);

static SHARED float tile_a[16 * 16], tile_b[16 * 16];

// c[m, n] = a[m, k] b[k, n], 16x16 tiles, ragged in every dimension.
KERNEL matmul(GLOBAL const float *a, GLOBAL const float *b, GLOBAL float *c, int m, int n, int k) {
  int x = TID, y = TIDY, row = CTAY * 16 + y, column = CTA * 16 + x;
  float sum = 0;
  for (int t = 0; t < k; t += 16) {
    tile_a[y * 16 + x] = row < m && t + x < k ? a[row * k + t + x] : 0;
    tile_b[y * 16 + x] = t + y < k && column < n ? b[(t + y) * n + column] : 0;
    BARRIER;
    for (int i = 0; i < 16; ++i)
      sum += tile_a[y * 16 + i] * tile_b[i * 16 + x];
    BARRIER;
  }
  if (row < m && column < n)
    c[row * n + column] = sum;
}

static SHARED float partial[256];

// out[block] = sum of the block's 256 elements of x[n], by a tree in shared memory.
KERNEL block_sum(GLOBAL const float *x, GLOBAL float *out, int n) {
  int i = CTA * 256 + TID;
  partial[TID] = i < n ? x[i] : 0;
  BARRIER;
#pragma unroll 1
  for (int s = 128; s > 0; s >>= 1) {
    if (TID < s)
      partial[TID] += partial[TID + s];
    BARRIER;
  }
  if (TID == 0)
    out[CTA] = partial[0];
}

// out[row] = sum of x[row, 0..128), one warp a row, float4 loads and a butterfly.
KERNEL row_sum(GLOBAL const float4 *x, GLOBAL float *out, int rows) {
  int row = (CTA * NTID + TID) / 32, lane = TID % 32;
  if (row >= rows)
    return;
  float4 v = x[row * 32 + lane];
  float sum = v[0] + v[1] + v[2] + v[3];
  for (int s = 16; s > 0; s >>= 1)
    sum += __builtin_bit_cast(float, __nvvm_shfl_sync_bfly_i32(-1, __builtin_bit_cast(int, sum), s, 31));
  if (lane == 0)
    out[row] = sum;
}

static SHARED float pad[32 * 33];

// y[c, r] = x[r, c] by 32x32 tiles with a padded column; blocks of 32x8 threads.
KERNEL transpose(GLOBAL const float *x, GLOBAL float *y, int rows, int columns) {
  int r0 = CTAY * 32, c0 = CTA * 32;
  for (int i = TIDY; i < 32; i += 8)
    if (r0 + i < rows && c0 + TID < columns)
      pad[i * 33 + TID] = x[(r0 + i) * columns + c0 + TID];
  BARRIER;
  for (int i = TIDY; i < 32; i += 8)
    if (c0 + i < columns && r0 + TID < rows)
      y[(c0 + i) * rows + r0 + TID] = pad[TID * 33 + i];
}

// y[i] = scale x[i], 16 bytes a thread and the tail one by one.
KERNEL scale4(GLOBAL const float *x, GLOBAL float *y, float scale, int n) {
  int i = 4 * (CTA * NTID + TID);
  if (i + 4 <= n)
    *(GLOBAL float4 *)(y + i) = *(GLOBAL const float4 *)(x + i) * scale;
  else
    for (; i < n; ++i)
      y[i] = x[i] * scale;
}

// What libdevice makes of tanh, exp, erf, log and sin (the slow path of sin included).
KERNEL activations(GLOBAL const float *x, GLOBAL float *y, int n) {
  int i = CTA * NTID + TID;
  if (i >= n)
    return;
  y[i] = __nv_tanhf(x[i]);
  y[n + i] = __nv_expf(x[i]);
  y[2 * n + i] = __nv_erff(x[i]);
  y[3 * n + i] = __nv_logf(x[i]);
  y[4 * n + i] = __nv_sinf(x[i]);
}

KERNEL exp_f64(GLOBAL const double *x, GLOBAL double *y, int n) {
  int i = CTA * NTID + TID;
  if (i < n)
    y[i] = __nv_exp(x[i]);
}

extern SHARED float dynamic[];

// Each block's stretch of NTID elements reversed.
KERNEL reverse(GLOBAL const float *x, GLOBAL float *y) {
  int base = CTA * NTID;
  dynamic[TID] = x[base + TID];
  BARRIER;
  y[base + TID] = dynamic[NTID - 1 - TID];
}

// y = x w + b for bf16 x[n, 8], w[8], b[1] with f32 accumulation.
KERNEL dot_bf16(GLOBAL const __bf16 *x, GLOBAL const __bf16 *w, GLOBAL const __bf16 *b, GLOBAL __bf16 *y, int n) {
  int i = CTA * NTID + TID;
  if (i >= n)
    return;
  float sum = b[0];
  for (int j = 0; j < 8; ++j)
    sum += (float)x[8 * i + j] * (float)w[j];
  y[i] = (__bf16)sum;
}

KERNEL dot_f16(GLOBAL const _Float16 *x, GLOBAL const _Float16 *w, GLOBAL const _Float16 *b, GLOBAL _Float16 *y,
               int n) {
  int i = CTA * NTID + TID;
  if (i >= n)
    return;
  float sum = b[0];
  for (int j = 0; j < 8; ++j)
    sum += (float)x[8 * i + j] * (float)w[j];
  y[i] = (_Float16)sum;
}

// n networks relu(x[20] w1[20, 32]^T + b1) w2[32] + b2, a warp each: one hidden unit a lane. 4 warps a block.
KERNEL networks(GLOBAL const float *x, GLOBAL const float *w1, GLOBAL const float *b1, GLOBAL const float *w2,
                GLOBAL const float *b2, GLOBAL float *y, int n) {
  int net = CTA * 4 + TID / 32, lane = TID % 32;
  if (net >= n)
    return;
  GLOBAL const float4 *xs = (GLOBAL const float4 *)(x + net * 20),
                      *w = (GLOBAL const float4 *)(w1 + (net * 32 + lane) * 20);
  float h = b1[net * 32 + lane];
  for (int j = 0; j < 5; ++j) {
    float4 p = xs[j] * w[j];
    h += p[0] + p[1] + p[2] + p[3];
  }
  h = (h > 0 ? h : 0) * w2[net * 32 + lane];
  for (int s = 16; s > 0; s >>= 1)
    h += __builtin_bit_cast(float, __nvvm_shfl_sync_down_i32(-1, __builtin_bit_cast(int, h), s, 31));
  if (lane == 0)
    y[net] = h + b2[net];
}
