/* What the program does with configurations and commands. */
#include <stdio.h>
#include <string.h>

#include "board.h"
#include "core.h"

static mdm_esp_config apply;
static void *apply_context;
static struct command {
  const char *name;
  mdm_esp_run run;
  void *context;
} commands[MDM_ESP_COMMANDS];
static size_t command_count;

void mdm_esp_on_config(mdm_esp_config wanted, void *context) {
  apply = wanted;
  apply_context = context;
}

esp_err_t mdm_esp_command(const char *name, mdm_esp_run run, void *context) {
  if (command_count == MDM_ESP_COMMANDS) return ESP_ERR_NO_MEM;
  commands[command_count++] = (struct command){name, run, context};
  return ESP_OK;
}

const char *mdm_handlers_apply(const struct mdm_action *action) {
  return apply == NULL ? NULL : apply(apply_context, action->data, action->size);
}

void mdm_handlers_run(struct mdm *m, const struct mdm_action *action) {
  static char answer[MDM_RESULT_MAX + 1];
  for (size_t i = 0; i < command_count; i++) {
    if (strcmp(commands[i].name, action->name) != 0) continue;
    answer[0] = '\0';
    bool good = commands[i].run(commands[i].context, action->data, action->size, answer, sizeof answer);
    const char *said = answer[0] == '\0' ? NULL : answer;
    mdm_on_command_done(m, good ? said : NULL, good ? NULL : said != NULL ? said : "failed");
    return;
  }
  size_t at = (size_t)snprintf(answer, sizeof answer, "unknown command; this firmware knows reboot");
  for (size_t i = 0; i < command_count && at + strlen(commands[i].name) + 3 < MDM_NOTE_MAX; i++)
    at += (size_t)snprintf(answer + at, sizeof answer - at, ", %s", commands[i].name);
  mdm_on_command_done(m, NULL, answer);
}

bool mdm_esp_member(const char *json, size_t size, const char *member, char *text, size_t capacity) {
  const char *const names[] = {member, NULL};
  struct mdm_json found[1];
  if (!mdm_json_object(json, size, names, found) || found[0].kind == 0) return false;
  if (found[0].kind == '"') return mdm_json_text(&found[0], text, capacity) >= 0;
  if (found[0].size >= capacity) return false;
  memcpy(text, found[0].at, found[0].size);
  text[found[0].size] = '\0';
  return true;
}
