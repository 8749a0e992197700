// A driver's library with one Ampere card of 24 GiB, 2 GiB of it held by process 4242: what `sluice doctor` asks, and no more.
#include <cstring>

extern "C" {
int nvmlInit_v2() { return 0; }
int nvmlShutdown() { return 0; }
int nvmlSystemGetDriverVersion(char* text, unsigned size) { return std::strncpy(text, "550.54.15", size) ? 0 : 1; }
int nvmlDeviceGetCount_v2(unsigned* count) { return *count = 1, 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned, void** device) { return *device = nullptr, 0; }
int nvmlDeviceGetName(void*, char* text, unsigned size) { return std::strncpy(text, "NVIDIA A30", size) ? 0 : 1; }
int nvmlDeviceGetMemoryInfo(void*, unsigned long long* total_free_used) {
  total_free_used[0] = 24ull << 30;
  total_free_used[1] = 22ull << 30;
  total_free_used[2] = 2ull << 30;
  return 0;
}
int nvmlDeviceGetCudaComputeCapability(void*, int* major, int* minor) { return *major = 8, *minor = 0, 0; }
struct ProcessInfo {
  unsigned pid;
  unsigned long long bytes;
  unsigned gpu_instance, compute_instance;
};
int nvmlDeviceGetComputeRunningProcesses_v3(void*, unsigned* count, ProcessInfo* out) {
  *count = 1;
  out[0] = {4242, 2ull << 30, ~0u, ~0u};
  return 0;
}
}
