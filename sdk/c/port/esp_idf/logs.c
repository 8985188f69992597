/* Sends what ESP_LOG prints, from a level on. A line is `W (1234) tag: text`, perhaps with colours around it. */
#include <esp_log.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "board.h"

enum { LINE_BYTES = 160, TAG_BYTES = 16 };

static vprintf_like_t print = vprintf;

/* Skips the colour in front of a line. */
static const char *behind_colour(const char *line) {
  const char *end = line[0] == '\033' ? strchr(line, 'm') : NULL;
  return end == NULL ? line : end + 1;
}

/* The place of a level among those that are sent, from the worst on, as CONFIG_MDM_LOG_LEVEL counts them; or -1. */
static int level_of(const char *line) {
  static const char LEVELS[] = "EWID";
  const char *at = behind_colour(line), *found = at[0] == '\0' || at[1] != ' ' || at[2] != '(' ? NULL : strchr(LEVELS, at[0]);
  return found == NULL || found - LEVELS >= CONFIG_MDM_LOG_LEVEL ? -1 : (int)(found - LEVELS);
}

static __attribute__((noinline)) void send_line(int level, const char *format, va_list values) {
  static const enum mdm_esp_level SAID[] = {MDM_ESP_ERROR, MDM_ESP_WARNING, MDM_ESP_INFO, MDM_ESP_DEBUG};
  char line[LINE_BYTES], name[TAG_BYTES];
  if (vsnprintf(line, sizeof line, format, values) <= 0) return;
  char *tag = strstr(line, ") "), *text = tag == NULL ? NULL : strstr(tag + 2, ": ");
  if (text == NULL) return;
  (void)snprintf(name, sizeof name, "%.*s", (int)(text - tag - 2), tag + 2);
  text += 2;
  text[strcspn(text, "\033\r\n")] = '\0';
  if (name[0] != '\0' && text[0] != '\0') mdm_esp_log(SAID[level], name, text);
}

static int on_print(const char *format, va_list values) {
  int level = level_of(format); /* ESP_LOG has the level in the format: most lines cost nothing more */
  if (level >= 0) {
    va_list again;
    va_copy(again, values);
    send_line(level, format, again);
    va_end(again);
  }
  return print(format, values);
}

void mdm_logs_begin(void) {
  if (CONFIG_MDM_LOG_LEVEL > 0) print = esp_log_set_vprintf(on_print);
}
