# test_kernels_address and test_kernels_thread: the device's tests, from the objects of the ordinary build, with kernels and
# emulator compiled with AddressSanitizer and UndefinedBehaviorSanitizer, or with ThreadSanitizer, to which every CUDA
# thread is one of its threads. A tenth of the time of the presets asan and tsan, which sanitize all the rest as well.
# Not built by default: target sanitized_kernels, tests labelled `sanitized`.
set(objects)
foreach(name IN LISTS device_tests)
  list(APPEND objects $<TARGET_OBJECTS:${name}>)
endforeach()
set(shards 4)
math(EXPR last "${shards} - 1")
add_custom_target(sanitized_kernels)

# The other orders at these would take minutes, or run kernels that have their own tests in all orders.
set(address_filter "${slow_when_sanitized}:*/random*:*/at_once*:*CudaLevels.D*/reverse*:*CudaFit.Batches*/reverse*:*CudaLocal*/reverse*")
# Allocations that fail are matters of addresses; and the kernels of the others run at smaller sizes too.
set(thread_filter "${slow_when_sanitized}${slow_with_threads}:*/reverse*:*/random*:*/at_once*:*EachAllocation*:*CudaSolve.HopelessSystems*:*CudaSampler.ManyParticles*:*CudaLevels.FittedLevels*")
foreach(sanitizer address thread)
  set(name test_kernels_${sanitizer})
  set(emulator dynkin_emulator_${sanitizer})
  # The emulator comes first: of functions that stand in headers, the linker takes the first copy.
  add_executable(${name} EXCLUDE_FROM_ALL $<TARGET_OBJECTS:${emulator}> ${objects})
  set_target_properties(${name} PROPERTIES LINKER_LANGUAGE CXX)
  target_link_options(${name} PRIVATE ${${sanitizer}_sanitizer})
  target_link_libraries(${name} PRIVATE dynkin GTest::gtest_main OpenMP::OpenMP_CXX PkgConfig::OPENBLAS PkgConfig::LAPACKE
    fmt::fmt nlohmann_json::nlohmann_json)
  add_dependencies(sanitized_kernels ${name})
  set(environment ${test_environment})
  if(sanitizer STREQUAL thread) # what OpenMP and OpenBLAS order is unknown to it
    list(APPEND environment OMP_THREAD_LIMIT=1 OPENBLAS_NUM_THREADS=1)
  endif()
  foreach(shard RANGE ${last})
    add_test(NAME kernels_${sanitizer}_${shard} COMMAND ${name} --gtest_brief=1 --gtest_filter=${${sanitizer}_filter})
    set_tests_properties(kernels_${sanitizer}_${shard} PROPERTIES LABELS sanitized TIMEOUT 1800
      ENVIRONMENT "${environment};GTEST_TOTAL_SHARDS=${shards};GTEST_SHARD_INDEX=${shard}")
  endforeach()
endforeach()
