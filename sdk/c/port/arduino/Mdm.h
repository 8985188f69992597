/* A device on an ESP32 with Arduino (core 3.x): README.md begins with an example. It works in a task of its own; what
 * you give onConfig and onCommand is called in that task, not in loop(). */
#ifndef MDM_ARDUINO_H
#define MDM_ARDUINO_H
#include <Arduino.h>

#include <functional>

#include "mdm/mdm_esp.h"

class MdmDevice {
 public:
  /* Returns "" if the configuration, a JSON object, is in force, else one line that says why it is not. */
  using Config = std::function<String(const String &json)>;
  /* Returns whether the command was done; `answer` is its result (a JSON object, or empty), or the error. */
  using Command = std::function<bool(const String &arguments, String &answer)>;

  void onConfig(Config apply);
  bool onCommand(const char *name, Command run); /* at most MDM_ESP_COMMANDS */
  /* An image on trial is kept only after healthy(). Call before begin(). */
  void selfTests() { options_.self_tests = true; }
  /* Your sketch brings the network up (WiFi.begin, Ethernet), instead of the library. Call before begin(). */
  void ownNetwork() { options_.own_network = true; }
  /* Deep sleep between short connections: see wake_interval_s of mdm_esp.h. setup() runs again. Call before begin(). */
  void sleeps(uint32_t wakeIntervalSeconds) { options_.wake_interval_s = wakeIntervalSeconds; }
  /* False: it has no identity, or a wrong one; the reason is on the serial console (core debug level "Error"). */
  bool begin() { return mdm_esp_start(&options_) == ESP_OK; }
  void healthy() { mdm_esp_healthy(); }
  bool isOnline() { return mdm_esp_is_online(); }
  void log(mdm_esp_level level, const char *tag, const String &text) { mdm_esp_log(level, tag, text.c_str()); }
  /* On the own topic app/{client_id}/up/{name}; false: not online, the message is dropped. */
  bool publish(const char *name, const String &message) { return mdm_esp_publish(name, message.c_str(), message.length()); }
  /* Numbers about the board, as {"heap_free_bytes":142336}: docs/protocol.md, Vitals. False as above. */
  bool vitals(const String &numbers) { return mdm_esp_vitals(numbers.c_str()); }
  /* A member of a JSON object as text, or "" if it is not there. For more than this, take ArduinoJson. */
  static String member(const String &json, const char *name);

 private:
  mdm_esp_options options_ = {};
};

extern MdmDevice Mdm;
#endif
