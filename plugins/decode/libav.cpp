// Implements libav.hpp: allocation that throws, and libav's log as part of error messages.
#include "libav.hpp"

#include <cstdarg>
#include <mutex>
#include <new>

namespace sluice::decode {

namespace {
thread_local LogScope* current_scope = nullptr;
std::once_flag log_taken_over;
}  // namespace

PacketPtr make_packet() {
  PacketPtr packet(av_packet_alloc());
  if (!packet) throw std::bad_alloc();
  return packet;
}

FramePtr make_frame() {
  FramePtr frame(av_frame_alloc());
  if (!frame) throw std::bad_alloc();
  return frame;
}

ParametersPtr copy_of(const AVCodecParameters& parameters) {
  ParametersPtr copy(avcodec_parameters_alloc());
  if (!copy || avcodec_parameters_copy(copy.get(), &parameters) < 0) throw std::bad_alloc();
  return copy;
}

// The callback is one for the process. It stays: plugins are never unloaded.
LogScope::LogScope() : outer_(current_scope) {
  std::call_once(log_taken_over, [] { av_log_set_callback(&LogScope::receive); });
  current_scope = this;
}

LogScope::~LogScope() { current_scope = outer_; }

void LogScope::receive(void* source, int level, const char* format, va_list arguments) {
  LogScope* scope = current_scope;
  if (!scope || level > AV_LOG_ERROR || !scope->first_.empty()) return;
  char line[256];
  int at_line_start = 1;
  av_log_format_line2(source, level, format, arguments, line, sizeof line, &at_line_start);
  try {
    std::string text(line);
    while (!text.empty() && (text.back() == '\n' || text.back() == '\r' || text.back() == ' ')) text.pop_back();
    // "[h264 @ 0x55d447f36540] text" to "h264: text": an address says nothing to anybody
    if (const auto at = text.find(" @ 0x"), end = text.find("] "); text.starts_with('[') && at < end && end != std::string::npos)
      text = text.substr(1, at - 1) + ": " + text.substr(end + 2);
    scope->first_ = text;
  } catch (const std::bad_alloc&) {  // libav's C code is in between
  }
}

std::string LogScope::explain(int code) const {
  char name[AV_ERROR_MAX_STRING_SIZE] = {};
  if (code < 0) av_strerror(code, name, sizeof name);
  std::string text = name;
  if (!first_.empty()) text += (text.empty() ? "" : "; ") + first_;
  return text;
}

}  // namespace sluice::decode
