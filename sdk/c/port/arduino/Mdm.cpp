#include "Mdm.h"

MdmDevice Mdm;

/* Arduino's core keeps each new image before setup() unless this says that somebody else decides: the library does. */
extern "C" bool verifyRollbackLater() { return true; }

namespace {

constexpr size_t kMemberBytes = 512;
MdmDevice::Config apply;
MdmDevice::Command commands[MDM_ESP_COMMANDS];
size_t command_count = 0;

String text_of(const char *data, size_t size) {
  String text;
  text.concat(data, static_cast<unsigned>(size));
  return text;
}

const char *on_config(void *, const char *json, size_t size) {
  static String why; /* must outlive this call */
  why = apply(text_of(json, size));
  return why.length() == 0 ? nullptr : why.c_str();
}

bool on_command(void *context, const char *arguments, size_t size, char *answer, size_t capacity) {
  String said;
  bool good = (*static_cast<MdmDevice::Command *>(context))(text_of(arguments, size), said);
  if (said.length() >= capacity) {
    snprintf(answer, capacity, "the result is longer than %u characters", static_cast<unsigned>(capacity - 1));
    return false;
  }
  memcpy(answer, said.c_str(), said.length() + 1);
  return good;
}

}  // namespace

void MdmDevice::onConfig(Config wanted) {
  apply = wanted;
  mdm_esp_on_config(on_config, nullptr);
}

bool MdmDevice::onCommand(const char *name, Command run) {
  if (command_count == MDM_ESP_COMMANDS) return false;
  commands[command_count] = run;
  return mdm_esp_command(name, on_command, &commands[command_count++]) == ESP_OK;
}

String MdmDevice::member(const String &json, const char *name) {
  static char text[kMemberBytes];
  return mdm_esp_member(json.c_str(), json.length(), name, text, sizeof text) ? String(text) : String("");
}
