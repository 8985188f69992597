/* Sleeps a second between two connections, on the board of tests/esp_idf. */
#include <stdlib.h>

#include "mdm_esp.h"

void app_main(void);

void app_main(void) {
  static const struct mdm_esp_options OPTIONS = {.wake_interval_s = 1};
  if (mdm_esp_start(&OPTIONS) != ESP_OK) exit(1);
}
