# What the static library links: found by the build here and, installed beside dynkinConfig.cmake, by its users.
include(CMakeFindDependencyMacro)
find_dependency(OpenMP COMPONENTS CXX)
find_dependency(fmt)
find_dependency(PkgConfig)
pkg_check_modules(OPENBLAS REQUIRED QUIET IMPORTED_TARGET openblas)
pkg_check_modules(LAPACKE REQUIRED QUIET IMPORTED_TARGET lapacke)
pkg_check_modules(TOMLPLUSPLUS REQUIRED QUIET IMPORTED_TARGET tomlplusplus)
if(DYNKIN_WITH_CUDA)
  find_dependency(CUDAToolkit) # its static runtime, which opens the driver when it is first called
endif()
