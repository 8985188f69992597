/* A board of files, on which port/esp_idf runs in tests: folder FOLDER with the records, the app partitions and the
 * bootloader's record. Power cuts as in port/posix: MDM_CUT_AT. */
#ifndef MDM_TEST_BOARD_H
#define MDM_TEST_BOARD_H
#include <stdbool.h>

/* Starts the bootloader: installs `image` at the first start, and returns from an image that was not confirmed. */
bool board_boot(const char *image);
void board_restart(void) __attribute__((noreturn));
#endif
