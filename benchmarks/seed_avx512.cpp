//===- seed_avx512.cpp - the seed model by hand, as well as one core can -------------===//
//
// n networks Linear(20, 10) → Linear(10, 1) on one row each, sixteen at a time: one network a lane. What pfcn
// reaches on this model is measured against it: with frozen weights against `seed_packed`, whose weights lie as they
// are read, one stream of vectors; with live ones against `seed_rows`, which reads them as torch has them and
// transposes them in registers, like the inputs.
//
//===----------------------------------------------------------------------------===//

#include <immintrin.h>

#include <cstring>

namespace {

constexpr long lanes = 16, inputs = 20, hidden = 10;
/// Per hidden feature its weights and its bias, then the weights and the bias of the output.
constexpr long vectorsPerTile = hidden * (inputs + 1) + hidden + 1;

/// Four neighbours of each of sixteen rows: element i of row l is result i, lane l.
inline void transposeFour(const float *rows, long stride, __m512 *result) {
  __m512 quarter[4];
  for (long i = 0; i < 4; ++i) {
    // Rows i, i + 4, i + 8 and i + 12: shuffles stay inside of 128 bits then, and lanes come out in order.
    __m512 joined = _mm512_castps128_ps512(_mm_loadu_ps(rows + i * stride));
    joined = _mm512_insertf32x4(joined, _mm_loadu_ps(rows + (i + 4) * stride), 1);
    joined = _mm512_insertf32x4(joined, _mm_loadu_ps(rows + (i + 8) * stride), 2);
    quarter[i] = _mm512_insertf32x4(joined, _mm_loadu_ps(rows + (i + 12) * stride), 3);
  }
  __m512 low01 = _mm512_unpacklo_ps(quarter[0], quarter[1]), low23 = _mm512_unpacklo_ps(quarter[2], quarter[3]);
  __m512 high01 = _mm512_unpackhi_ps(quarter[0], quarter[1]), high23 = _mm512_unpackhi_ps(quarter[2], quarter[3]);
  result[0] = _mm512_shuffle_ps(low01, low23, _MM_SHUFFLE(1, 0, 1, 0));
  result[1] = _mm512_shuffle_ps(low01, low23, _MM_SHUFFLE(3, 2, 3, 2));
  result[2] = _mm512_shuffle_ps(high01, high23, _MM_SHUFFLE(1, 0, 1, 0));
  result[3] = _mm512_shuffle_ps(high01, high23, _MM_SHUFFLE(3, 2, 3, 2));
}

/// Ten neighbours; the last four overlap those before.
inline void transposeTen(const float *rows, __m512 *result) {
  transposeFour(rows, hidden, result);
  transposeFour(rows + 4, hidden, result + 4);
  transposeFour(rows + 6, hidden, result + 6);
}

inline void readInputs(const float *x, __m512 *row) {
  for (long k = 0; k < inputs; k += 4)
    transposeFour(x + k, inputs, row + k);
}

/// Four sums: one would wait for its own last addition each time.
struct Sums {
  __m512 part[4];

  explicit Sums(__m512 start) : part{start, _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()} {}
  void add(long i, __m512 a, __m512 b) { part[i % 4] = _mm512_fmadd_ps(a, b, part[i % 4]); }
  __m512 total() const { return _mm512_add_ps(_mm512_add_ps(part[0], part[1]), _mm512_add_ps(part[2], part[3])); }
};

inline __m512 runPackedTile(const float *x, const float *weights) {
  __m512 row[inputs];
  readInputs(x, row);
  const float *next = weights, *output = weights + hidden * (inputs + 1) * lanes;
  __m512 result = _mm512_load_ps(output + hidden * lanes);
  for (long j = 0; j < hidden; ++j) {
    Sums sums(_mm512_load_ps(next + inputs * lanes));
    for (long k = 0; k < inputs; ++k)
      sums.add(k, _mm512_load_ps(next + k * lanes), row[k]);
    result = _mm512_fmadd_ps(_mm512_load_ps(output + j * lanes), sums.total(), result);
    next += (inputs + 1) * lanes;
  }
  return result;
}

inline __m512 runRowsTile(const float *x, const float *w, const float *b, const float *v, const float *c) {
  __m512 row[inputs], bias[hidden], output[hidden];
  readInputs(x, row);
  transposeTen(b, bias);
  transposeTen(v, output);
  __m512 result = _mm512_loadu_ps(c);
  for (long j = 0; j < hidden; ++j) {
    Sums sums(bias[j]);
    for (long k = 0; k < inputs; k += 4) {
      __m512 weights[4];
      transposeFour(w + j * inputs + k, hidden * inputs, weights);
      for (long i = 0; i < 4; ++i)
        sums.add(i, weights[i], row[k + i]);
    }
    result = _mm512_fmadd_ps(output[j], sums.total(), result);
  }
  return result;
}

} // namespace

/// x: [n, 20], y: [n]; `weights`: [ceil(n / 16), 221, 16], aligned to 64 bytes.
extern "C" void seed_packed(const float *x, const float *weights, float *y, long n) {
  long first = 0;
  for (; first + lanes <= n; first += lanes, weights += vectorsPerTile * lanes)
    _mm512_storeu_ps(y + first, runPackedTile(x + first * inputs, weights));
  if (first == n)
    return;
  float rest[lanes * inputs] = {};
  std::memcpy(rest, x + first * inputs, (n - first) * inputs * sizeof(float));
  _mm512_mask_storeu_ps(y + first, static_cast<__mmask16>((1 << (n - first)) - 1), runPackedTile(rest, weights));
}

/// w: [n, 10, 20], b: [n, 10], v: [n, 1, 10], c: [n, 1]; at least sixteen networks. The last tile overlaps its
/// neighbour.
extern "C" void seed_rows(const float *x, const float *w, const float *b, const float *v, const float *c, float *y,
                          long n) {
  for (long tile = 0; tile < n; tile += lanes) {
    long first = tile + lanes <= n ? tile : n - lanes;
    _mm512_storeu_ps(y + first, runRowsTile(x + first * inputs, w + first * hidden * inputs, b + first * hidden,
                                            v + first * hidden, c + first));
  }
}
