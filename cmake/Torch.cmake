# LibTorch out of the interpreter's own torch package. `find_package(Torch)` would probe for
# Caffe2, CUDA and MKL, and leave bogus rpaths behind.
execute_process(
  COMMAND ${Python_EXECUTABLE} -c "import importlib.util as u, os; print(os.path.dirname(u.find_spec('torch').origin))"
  OUTPUT_VARIABLE PFCN_TORCH_ROOT OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
foreach(lib c10 torch torch_cpu torch_python)
  add_library(torch::${lib} SHARED IMPORTED)
  set_target_properties(torch::${lib} PROPERTIES IMPORTED_LOCATION ${PFCN_TORCH_ROOT}/lib/lib${lib}.so)
  target_include_directories(torch::${lib} SYSTEM INTERFACE
    ${PFCN_TORCH_ROOT}/include ${PFCN_TORCH_ROOT}/include/torch/csrc/api/include)
endforeach()
# Torch's own OpenMP runtime: kernels share its threads (see lib/Runtime/Parallel.cpp). Wheels name it variously.
file(GLOB PFCN_TORCH_GOMP ${PFCN_TORCH_ROOT}/lib/libgomp*.so*)
if(NOT PFCN_TORCH_GOMP)
  message(FATAL_ERROR "no libgomp in ${PFCN_TORCH_ROOT}/lib: this torch was not built with GNU's OpenMP")
endif()
list(GET PFCN_TORCH_GOMP 0 PFCN_TORCH_GOMP)
add_library(torch::gomp SHARED IMPORTED)
set_target_properties(torch::gomp PROPERTIES IMPORTED_LOCATION ${PFCN_TORCH_GOMP})
