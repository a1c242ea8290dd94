# find_package(dynkin) gives the target dynkin::dynkin.
include(${CMAKE_CURRENT_LIST_DIR}/DynkinDependencies.cmake)
include(${CMAKE_CURRENT_LIST_DIR}/dynkinTargets.cmake)
