/* What port/arduino and its example use of Arduino, to compile and run them without it. */
#pragma once
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <unistd.h>

class String {
 public:
  String(const char *text = "") : text_(text) {}
  String(float value, unsigned digits) {
    char text[32];
    snprintf(text, sizeof text, "%.*f", static_cast<int>(digits), static_cast<double>(value));
    text_ = text;
  }
  bool concat(const char *data, unsigned size) {
    text_.append(data, size);
    return true;
  }
  const char *c_str() const { return text_.c_str(); }
  unsigned length() const { return static_cast<unsigned>(text_.size()); }
  long toInt() const { return strtol(text_.c_str(), nullptr, 10); }
  friend String operator+(const String &one, const String &other) { return String((one.text_ + other.text_).c_str()); }

 private:
  std::string text_;
};

inline struct SerialPort {
  void begin(unsigned long) {}
  void println(const char *text) { fprintf(stderr, "%s\n", text); }
} Serial;

inline struct Board {
  void restart() { abort(); }
} ESP;

inline void delay(unsigned ms) { usleep(ms * 1000); }
