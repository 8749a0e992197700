# The install tree: bin/sluice, lib/libsluice*.so, lib/sluice/plugins/*.so, the SDK headers and a CMake package.
include(CMakePackageConfigHelpers)
set(SLUICE_CMAKE_DIR "${CMAKE_INSTALL_LIBDIR}/cmake/sluice")
install(DIRECTORY sdk/include/sluice DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(TARGETS sluice_sdk EXPORT sluiceTargets)
install(EXPORT sluiceTargets NAMESPACE sluice:: DESTINATION ${SLUICE_CMAKE_DIR})
export(EXPORT sluiceTargets NAMESPACE sluice:: FILE "${CMAKE_BINARY_DIR}/sluiceTargets.cmake")  # a plugin builds against the build folder too
file(COPY cmake/SluicePlugin.cmake cmake/Torch.cmake cmake/libtorch.version DESTINATION "${CMAKE_BINARY_DIR}")
configure_package_config_file(cmake/sluiceConfig.cmake.in "${CMAKE_BINARY_DIR}/sluiceConfig.cmake"
  INSTALL_DESTINATION ${SLUICE_CMAKE_DIR})
write_basic_package_version_file("${CMAKE_BINARY_DIR}/sluiceConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${CMAKE_BINARY_DIR}/sluiceConfig.cmake" "${CMAKE_BINARY_DIR}/sluiceConfigVersion.cmake"
  cmake/SluicePlugin.cmake cmake/Torch.cmake cmake/libtorch.version DESTINATION ${SLUICE_CMAKE_DIR})
get_property(plugin_targets GLOBAL PROPERTY SLUICE_PLUGIN_TARGETS)
# Where LibTorch is. CMake would leave this path out of what is installed, because .venv lies below the checkout.
if(SLUICE_BUILD_TRAIN)
  foreach(target sluice_train ${plugin_targets})
    get_target_property(libraries ${target} LINK_LIBRARIES)
    if("sluice::torch" IN_LIST libraries)
      set_property(TARGET ${target} APPEND PROPERTY INSTALL_RPATH "${SLUICE_TORCH_DIR}/lib")
    endif()
  endforeach()
endif()
install(TARGETS ${plugin_targets} LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/sluice/plugins)
