# find_package(ipcio) gives ipcio::ipcio, the shared library, and ipcio::ipcio_static.
include(CMakeFindDependencyMacro)
find_dependency(Threads)
include(${CMAKE_CURRENT_LIST_DIR}/ipcio-targets.cmake)
