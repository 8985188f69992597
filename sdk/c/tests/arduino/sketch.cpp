/* The example as Arduino builds it: a sketch is C++, and main calls setup once and loop for ever. */
#include "Thermometer.ino"

extern "C" {
void app_main(void);
bool verifyRollbackLater();
}

void app_main(void) {
  if (!verifyRollbackLater()) abort();
  setup();
  for (;;) loop();
}
