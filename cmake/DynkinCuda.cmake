# Decides whether the CUDA backend is built (DYNKIN_WITH_CUDA), and with which compiler.
set(DYNKIN_CUDA AUTO CACHE STRING "CUDA backend: ON, OFF, or AUTO (when nvcc is found)")
set_property(CACHE DYNKIN_CUDA PROPERTY STRINGS AUTO ON OFF)
set(DYNKIN_WITH_CUDA OFF)
if(DYNKIN_CUDA STREQUAL "AUTO" OR DYNKIN_CUDA)
  find_program(CMAKE_CUDA_COMPILER NAMES $ENV{CUDACXX} nvcc HINTS ENV CUDA_PATH PATH_SUFFIXES bin
    PATHS /usr/local/cuda DOC "nvcc")
  if(CMAKE_CUDA_COMPILER)
    set(DYNKIN_WITH_CUDA ON)
  elseif(NOT DYNKIN_CUDA STREQUAL "AUTO")
    message(FATAL_ERROR "DYNKIN_CUDA is ${DYNKIN_CUDA}, but there is no nvcc; name one by -DCMAKE_CUDA_COMPILER=...")
  endif()
endif()
message(STATUS "CUDA backend: ${DYNKIN_WITH_CUDA}")

if(DYNKIN_WITH_CUDA)
  if(NOT CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 80-real 90-real 100) # A100, H100 and H200, B200; PTX for what comes after
  endif()
  if(CCACHE AND NOT CMAKE_CUDA_COMPILER_LAUNCHER)
    set(CMAKE_CUDA_COMPILER_LAUNCHER ${CCACHE})
  endif()
  enable_language(CUDA)
  set(CMAKE_CUDA_STANDARD 20)
  if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION) # CMake before 3.26 does not know that nvcc has it
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
  endif()
endif()

# dynkin_cuda_options(target): how nvcc compiles kernels.
# No contraction: as on the CPU, a multiply-add is fused where the source says fma(), so results do not depend on the
# compiler's choice, and the emulator computes what the device does.
function(dynkin_cuda_options target)
  set(options --fmad=false --expt-relaxed-constexpr --Werror=all-warnings -Xcompiler=-Wall,-Wextra)
  target_compile_options(${target} PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:${options}>")
endfunction()
