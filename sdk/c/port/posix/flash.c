/* Two app partitions as files, and what a bootloader keeps: which one starts, and whether it is on trial. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "actions.h"
#include "broker.h"
#include "posix.h"

enum { HEADER_BYTES = 208, DESCRIPTOR_AT = 32, STARTS_MAX = 3, SLOT_BYTES = 1536 * 1024 };

static struct boot {
  uint8_t active, on_trial, starts;
} boot;

static void slot_path(char path[4096], unsigned slot) { files_path(path, slot == 0 ? "ota_0.bin" : "ota_1.bin"); }

static bool keep(void) { return files_write("boot", &boot, sizeof boot); }

/* Calls `use` with the first `size` bytes of a file (0: all of it), at least one. */
static bool with_file(const char *path, size_t size, bool (*use)(const uint8_t *data, size_t size, void *to), void *to) {
  struct stat about;
  int file = open(path, O_RDONLY);
  bool good = file >= 0 && fstat(file, &about) == 0 && about.st_size > 0 && (uint64_t)about.st_size >= size;
  if (good) {
    size = size == 0 ? (size_t)about.st_size : size;
    void *data = mmap(NULL, size, PROT_READ, MAP_PRIVATE, file, 0);
    good = data != MAP_FAILED && use(data, size, to);
    if (data != MAP_FAILED) (void)munmap(data, size);
  }
  if (file >= 0) (void)close(file);
  return good;
}

static const struct mdm_port *crypto;

static bool hash(const uint8_t *data, size_t size, void *to) { return crypto->sha256(crypto->context, data, size, to); }

static bool install(const uint8_t *data, size_t size, void *to) {
  (void)to;
  return files_write("ota_0.bin", data, size);
}

static void to_hex(const uint8_t *bytes, size_t size, char *text) {
  for (size_t i = 0; i < size; i++) (void)snprintf(text + 2 * i, 3, "%02x", bytes[i]);
}

/* Source: esp_image_header_t and esp_app_desc_t of ESP-IDF. */
static bool describe(const uint8_t *data, size_t size, void *to) {
  static const struct {
    uint8_t id;
    const char *name;
  } CHIPS[] = {{0, "esp32"}, {2, "esp32s2"}, {5, "esp32c3"}, {9, "esp32s3"}, {12, "esp32c2"}, {13, "esp32c6"}, {16, "esp32h2"}};
  static char version[33], project[33];
  struct mdm_facts *facts = to;
  if (size < HEADER_BYTES || data[0] != 0xE9) return false;
  for (size_t i = 0; i < sizeof CHIPS / sizeof CHIPS[0]; i++)
    if (CHIPS[i].id == data[12]) facts->chip = CHIPS[i].name;
  facts->chip_id = data[12];
  memcpy(version, data + DESCRIPTOR_AT + 16, 32);
  memcpy(project, data + DESCRIPTOR_AT + 48, 32);
  facts->firmware_version = version;
  facts->project = project;
  return true;
}

bool flash_begin(const struct mdm_port *port, const char *image, struct mdm_facts *facts) {
  static char digits[65];
  char path[4096];
  uint8_t sha256[32];
  crypto = port;
  slot_path(path, 0);
  if (access(path, F_OK) != 0 && (image == NULL || !with_file(image, 0, install, NULL))) return image == NULL;
  if (files_read("boot", &boot, sizeof boot) != (int32_t)sizeof boot) memset(&boot, 0, sizeof boot);
  if (boot.on_trial && ++boot.starts > STARTS_MAX) boot = (struct boot){(uint8_t)(1 - boot.active), 0, 0};
  if (!keep()) return false;
  slot_path(path, boot.active);
  if (!with_file(path, 0, hash, sha256) || !with_file(path, 0, describe, facts)) return false;
  to_hex(sha256, sizeof sha256, digits);
  facts->firmware_sha256 = digits;
  facts->slot_size_bytes = SLOT_BYTES;
  facts->slot = boot.active;
  facts->on_trial = boot.on_trial;
  return true;
}

static int open_other(void) {
  char path[4096];
  slot_path(path, 1U - boot.active);
  return open(path, O_RDWR | O_CREAT, 0600);
}

bool mdm_app_erase(uint32_t from, size_t size) {
  files_fault("flash", "before");
  int file = open_other();
  bool good = file >= 0 && ftruncate(file, from) == 0 && ftruncate(file, (off_t)size) == 0 && fsync(file) == 0;
  if (file >= 0) (void)close(file);
  files_fault("flash", "after");
  return good;
}

bool mdm_app_write(uint32_t offset, const void *data, size_t size) {
  int file = open_other();
  bool good = file >= 0 && pwrite(file, data, size, offset) == (ssize_t)size && fsync(file) == 0;
  if (file >= 0) (void)close(file);
  return good;
}

bool mdm_app_hash(size_t size, uint8_t sha256[32]) {
  char path[4096];
  slot_path(path, 1U - boot.active);
  return with_file(path, size, hash, sha256);
}

bool mdm_app_select(void) {
  boot = (struct boot){(uint8_t)(1 - boot.active), 1, 0};
  return keep();
}

bool mdm_app_keep(void) {
  boot.on_trial = boot.starts = 0;
  return keep();
}

void mdm_app_roll_back(void) {
  boot = (struct boot){(uint8_t)(1 - boot.active), 0, 0};
  (void)keep();
  mdm_board_restart();
}

static bool read_dump(const uint8_t *data, size_t size, void *to) {
  static char elf[65], version[33];
  struct mdm_dump *dump = to;
  if (size < 64 || !hash(data, size, dump->sha256)) return false;
  to_hex(data, 32, elf);
  memcpy(version, data + 32, 32);
  dump->size = (uint32_t)size;
  dump->elf_sha256 = elf;
  dump->firmware_version = version;
  dump->reason = "panic";
  return true;
}

bool flash_find_dump(struct mdm_dump *dump) {
  char path[4096];
  files_path(path, "coredump.bin");
  return with_file(path, 0, read_dump, dump);
}

bool mdm_line_read_dump(uint32_t offset, void *data, size_t size) {
  char path[4096];
  files_path(path, "coredump.bin");
  int file = open(path, O_RDONLY);
  bool good = file >= 0 && pread(file, data, size, offset) == (ssize_t)size;
  if (file >= 0) (void)close(file);
  return good;
}

bool mdm_dump_erase(void) {
  char path[4096];
  files_path(path, "coredump.bin");
  return unlink(path) == 0;
}
