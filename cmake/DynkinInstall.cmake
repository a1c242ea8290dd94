# Installs library, headers and the package that find_package(dynkin) reads.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/dynkin)

install(FILES ${public_headers} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/dynkin)
install(TARGETS dynkin EXPORT dynkinTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT dynkinTargets NAMESPACE dynkin:: DESTINATION ${package_folder})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/dynkinConfigVersion.cmake COMPATIBILITY SameMinorVersion)
configure_file(${PROJECT_SOURCE_DIR}/cmake/dynkinConfig.cmake.in ${PROJECT_BINARY_DIR}/dynkinConfig.cmake @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/dynkinConfig.cmake ${PROJECT_SOURCE_DIR}/cmake/DynkinDependencies.cmake
              ${PROJECT_BINARY_DIR}/dynkinConfigVersion.cmake
        DESTINATION ${package_folder})
