# What `cmake --install` puts where; the components are those of the Debian packages.
set(CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/lstm_edge)
if(LSTM_EDGE_WITHOUT_LINKS)
  set(NAMELINK NAMELINK_SKIP)
else()
  set(NAMELINK NAMELINK_COMPONENT development)
endif()
install(TARGETS ${INSTALLED} EXPORT lstm_edge
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT library ${NAMELINK}
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT development)
if(LSTM_EDGE_BUILD_DEVICE)
  install(TARGETS lstm-edge-device RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR} COMPONENT device)
endif()
install(DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR}/include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT development)
install(EXPORT lstm_edge NAMESPACE lstm_edge:: FILE lstm_edge-targets.cmake DESTINATION ${CMAKE_DIR}
  COMPONENT development)

configure_package_config_file(${CMAKE_CURRENT_SOURCE_DIR}/cmake/lstm_edge-config.cmake.in lstm_edge-config.cmake
  INSTALL_DESTINATION ${CMAKE_DIR})
write_basic_package_version_file(lstm_edge-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/lstm_edge-config.cmake
  ${CMAKE_CURRENT_BINARY_DIR}/lstm_edge-config-version.cmake DESTINATION ${CMAKE_DIR} COMPONENT development)

# The folder of the .pc file says where the rest is, so that an installed tree can be moved.
file(RELATIVE_PATH PREFIX_FROM_PC ${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
string(REGEX REPLACE "/$" "" PREFIX_FROM_PC "${PREFIX_FROM_PC}")
if(LSTM_EDGE_SYSTEM_ZLIB)
  set(PC_REQUIRES zlib)
endif()
set(PC_LIBRARY -llstm_edge)
if(LSTM_EDGE_WITHOUT_LINKS)
  set(PC_LIBRARY -l:liblstm_edge.so.1)
endif()
configure_file(${CMAKE_CURRENT_SOURCE_DIR}/cmake/lstm_edge.pc.in lstm_edge.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/lstm_edge.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig
  COMPONENT development)

if(LSTM_EDGE_BUILD_DEVICE)
  install(FILES ${CMAKE_CURRENT_SOURCE_DIR}/systemd/lstm-edge-device@.service DESTINATION lib/systemd/system
    COMPONENT device)
endif()
foreach(NAME zlib)
  install(FILES ${CMAKE_CURRENT_SOURCE_DIR}/third_party/${NAME}/LICENSE RENAME LICENSE.${NAME}
    DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/lstm_edge COMPONENT library)
endforeach()
