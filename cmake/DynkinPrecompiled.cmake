# Headers of the standard library and of others that most sources include, compiled once for each kind of target: half of
# the time that the sources take. ccache does not keep objects made so; with it they are off, and that build shows
# an include that is missing.
if(CMAKE_CXX_COMPILER_LAUNCHER)
  option(DYNKIN_PRECOMPILED_HEADERS "Compile the headers of other libraries once" OFF)
else()
  option(DYNKIN_PRECOMPILED_HEADERS "Compile the headers of other libraries once" ON)
endif()

# dynkin_precompile(target header...)
function(dynkin_precompile target)
  if(DYNKIN_PRECOMPILED_HEADERS)
    set(headers algorithm cmath cstdint filesystem functional memory optional span string variant vector
      fmt/format.h nlohmann/json.hpp ${ARGN})
    list(TRANSFORM headers REPLACE "(.+)" "$<$<COMPILE_LANGUAGE:CXX>:<\\1$<ANGLE-R>>")
    target_precompile_headers(${target} PRIVATE ${headers})
  endif()
endfunction()

# dynkin_precompile_as(target other): the same headers, as they were compiled for another target with the same flags.
function(dynkin_precompile_as target other)
  if(DYNKIN_PRECOMPILED_HEADERS)
    target_precompile_headers(${target} REUSE_FROM ${other})
  endif()
endfunction()
