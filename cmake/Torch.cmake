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
