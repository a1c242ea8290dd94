# Installs library, headers, the packages that find_package(dynkin) and pkg-config read, manual pages and completion;
# `cpack` makes two Debian packages of it: dynkin, the program, and libdynkin-dev.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/dynkin)
set(CMAKE_INSTALL_DEFAULT_COMPONENT_NAME development)

install(FILES ${public_headers} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/dynkin)
install(TARGETS dynkin EXPORT dynkinTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT dynkinTargets NAMESPACE dynkin:: DESTINATION ${package_folder})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/dynkinConfigVersion.cmake COMPATIBILITY SameMinorVersion)
configure_file(${PROJECT_SOURCE_DIR}/cmake/dynkinConfig.cmake.in ${PROJECT_BINARY_DIR}/dynkinConfig.cmake @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/dynkinConfig.cmake ${PROJECT_SOURCE_DIR}/cmake/DynkinDependencies.cmake
              ${PROJECT_BINARY_DIR}/dynkinConfigVersion.cmake
        DESTINATION ${package_folder})

set(pc_folder ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
file(RELATIVE_PATH pc_prefix /${pc_folder} /) # the prefix as seen from the file, so that the package can be moved
string(REGEX REPLACE "/$" "" pc_prefix "${pc_prefix}")
if(DYNKIN_WITH_CUDA)
  set(pc_cuda_libs " -L${CUDAToolkit_LIBRARY_DIR} -lcudart_static -lpthread -ldl -lrt")
endif()
configure_file(${PROJECT_SOURCE_DIR}/cmake/dynkin.pc.in ${PROJECT_BINARY_DIR}/dynkin.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/dynkin.pc DESTINATION ${pc_folder})

# dynkin_install_program(target): the program, and what it says of itself: manual pages, completion of three shells.
function(dynkin_install_program program)
  set(commands draw fit sample weigh evaluate score density info bench man completion)
  set(folder ${PROJECT_BINARY_DIR}/share)
  file(MAKE_DIRECTORY ${folder})
  set(written)
  foreach(command "" ${commands})
    string(REGEX REPLACE "^dynkin-$" "dynkin" page "dynkin-${command}")
    add_custom_command(OUTPUT ${folder}/${page}.1
      COMMAND ${program} man ${command} > ${folder}/${page}.1 DEPENDS ${program} VERBATIM)
    list(APPEND written ${folder}/${page}.1)
  endforeach()
  install(FILES ${written} DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 COMPONENT program)
  foreach(shell bash zsh fish)
    add_custom_command(OUTPUT ${folder}/dynkin.${shell}
      COMMAND ${program} completion ${shell} > ${folder}/dynkin.${shell} DEPENDS ${program} VERBATIM)
    list(APPEND written ${folder}/dynkin.${shell})
  endforeach()
  add_custom_target(dynkin_documentation ALL DEPENDS ${written})
  install(TARGETS ${program} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT program)
  install(FILES ${folder}/dynkin.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME dynkin
    COMPONENT program)
  install(FILES ${folder}/dynkin.zsh DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/vendor-completions RENAME _dynkin
    COMPONENT program)
  install(FILES ${folder}/dynkin.fish DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d COMPONENT program)
  install(FILES ${PROJECT_SOURCE_DIR}/README.md ${PROJECT_SOURCE_DIR}/CHANGELOG.md DESTINATION ${CMAKE_INSTALL_DOCDIR}
    COMPONENT program)
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/examples DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT program)
endfunction()

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_CONTACT "the authors of Dynkin")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_COMPONENTS_ALL program development)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PROGRAM_PACKAGE_NAME dynkin)
set(CPACK_DEBIAN_PROGRAM_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PROGRAM_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PROGRAM_PACKAGE_RECOMMENDS gnuplot-nox) # for reports
set(CPACK_COMPONENT_PROGRAM_DESCRIPTION "${PROJECT_DESCRIPTION}")
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_NAME libdynkin-dev)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_DEPENDS
  "libopenblas-dev, liblapacke-dev, libfmt-dev, libtomlplusplus-dev, pkgconf")
set(CPACK_COMPONENT_DEVELOPMENT_DESCRIPTION "${PROJECT_DESCRIPTION}: static library and headers")
include(CPack)
