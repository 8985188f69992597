/* Prints the record `identity`, and replaces it by the environment variable STORE, on the board of tests/esp_idf. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "board.h"

void app_main(void);

void app_main(void) {
  char text[16] = "";
  const char *next = getenv("STORE");
  bool good = mdm_records_begin() == ESP_OK && mdm_records_load(NULL, "identity", text, sizeof text - 1) >= 0;
  if (next != NULL) good = good && mdm_records_store("identity", next, strlen(next));
  (void)printf("%s\n", text);
  exit(good ? 0 : 1);
}
