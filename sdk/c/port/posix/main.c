/* mdm-device: a device on a POSIX system, such as a gateway with Linux, and the one that tests run.
 *
 *     mdm-device --package FILE --state FOLDER [--image FILE]
 *     mdm-device --claim FILE --uid UID --state FOLDER [--image FILE]
 *
 * Its records are files in FOLDER; an existing one takes precedence over the package. It writes what it does to standard
 * error, and each configuration in force to FOLDER/config.json. With --image it has app partitions, of which the file
 * is the first content. It knows the commands `identify` and `echo`. SIGTERM ends it cleanly. Tests divide all its
 * pauses with --hurry N, and take turns of profiles after --turn-ms N. With --wake-interval-s N it sleeps, with
 * --mqtt-auth either it presents a token first and the secret if that fails. */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../psa/crypto.h"
#include "actions.h"
#include "broker.h"
#include "posix.h"

enum { BUFFER_BYTES = 64 * 1024, LONGEST_MS = 1000 };

static const char KEY_TOLD[] = "MDM_KEY_TOLD_S";
static struct mdm device;
static const char *package_path, *claim_path;
static struct mdm_dump dump;
static char **arguments;
static volatile sig_atomic_t ends;

static int32_t load(void *context, const char *name, void *data, size_t size) {
  (void)context;
  if (strcmp(name, "package") == 0 && package_path != NULL) return files_load(package_path, data, size);
  if (strcmp(name, "claim") == 0) return claim_path == NULL ? 0 : files_load(claim_path, data, size);
  return files_read(name, data, size);
}

bool mdm_records_store(const char *name, const void *data, size_t size) { return files_write(name, data, size); }

bool mdm_board_join(const struct mdm_login *login) { return login != NULL; } /* the system has joined its networks */

void mdm_board_wait(uint32_t ms) {
  if (!ends) (void)poll(NULL, 0, (int)ms);
}

void mdm_board_restart(void) {
  net_close();
  (void)execv("/proc/self/exe", arguments);
  perror("mdm-device: cannot start again");
  exit(1);
}

/* What a board keeps in the memory of its clock, a process keeps in its environment. */
void mdm_board_sleep(uint32_t seconds) {
  char told[12];
  (void)fprintf(stderr, "asleep for %u s\n", (unsigned)seconds);
  (void)snprintf(told, sizeof told, "%u", (unsigned)mdm_key_told_s(&device));
  (void)setenv(KEY_TOLD, told, 1);
  (void)poll(NULL, 0, (int)seconds * 1000); /* SIGTERM ends it too */
  if (!ends) mdm_board_restart();
  exit(0);
}

const char *mdm_handlers_apply(const struct mdm_action *action) {
  (void)fprintf(stderr, "configuration: %.*s\n", (int)action->size, (const char *)action->data);
  return files_write("config.json", action->data, action->size) ? NULL : "cannot be written";
}

void mdm_handlers_run(struct mdm *m, const struct mdm_action *action) {
  char arguments_text[MDM_RESULT_MAX + 1];
  (void)fprintf(stderr, "command: %s\n", action->name);
  if (strcmp(action->name, "identify") == 0) {
    mdm_on_command_done(m, NULL, NULL);
  } else if (strcmp(action->name, "echo") == 0 && action->size <= MDM_RESULT_MAX) {
    memcpy(arguments_text, action->data, action->size);
    arguments_text[action->size] = '\0';
    mdm_on_command_done(m, arguments_text, NULL);
  } else {
    mdm_on_command_done(m, NULL, "unknown command; this firmware knows echo, identify, reboot");
  }
}

static void end(int signal_number) {
  (void)signal_number;
  ends = 1;
}

static int fail(const char *what) {
  (void)fprintf(stderr, "mdm-device: %s\n", what);
  return 1;
}

int main(int count, char **values) {
  static char buffer[BUFFER_BYTES];
  static struct mdm_port port;
  static struct mdm_facts facts = {.firmware_version = "1.0.0", .project = "mdm-device", .has_tokens = true};
  static const char *const ERRORS[] = {"", "there is no package, and no claim package with a uid", "the package breaks a rule, or is another device's",
                                       "", "a record cannot be read", "the cryptography failed"};
  const char *state = NULL, *image = NULL;
  arguments = values;
  for (int i = 1; i + 1 < count; i += 2) {
    if (strcmp(values[i], "--package") == 0) package_path = values[i + 1];
    if (strcmp(values[i], "--state") == 0) state = values[i + 1];
    if (strcmp(values[i], "--claim") == 0) claim_path = values[i + 1];
    if (strcmp(values[i], "--uid") == 0) facts.uid = values[i + 1];
    if (strcmp(values[i], "--image") == 0) image = values[i + 1];
    if (strcmp(values[i], "--wake-interval-s") == 0) facts.wake_interval_s = (uint32_t)atol(values[i + 1]);
    if (strcmp(values[i], "--mqtt-auth") == 0) facts.either = strcmp(values[i + 1], "either") == 0;
    if (strcmp(values[i], "--hurry") == 0) facts.hurry = (uint16_t)atoi(values[i + 1]);
    if (strcmp(values[i], "--turn-ms") == 0) facts.turn_ms = (uint32_t)atol(values[i + 1]);
  }
  if (facts.wake_interval_s > MDM_WAKE_INTERVAL_MAX_S) return fail("--wake-interval-s: must be at most 2592000");
  if (state == NULL) return fail("usage: mdm-device (--package FILE | --claim FILE --uid UID) --state FOLDER [--image FILE]");
  if (!files_begin(state)) return fail("the folder of the state cannot be made");
  if (!mdm_psa_begin()) return fail(ERRORS[MDM_FAILED]);
  mdm_psa_use(&port);
  port.load = load;
  port.can_trust = net_can_trust;
  facts.key_told_s = getenv(KEY_TOLD) == NULL ? 0 : (uint32_t)atol(getenv(KEY_TOLD));
  (void)unsetenv(KEY_TOLD);
  (void)signal(SIGPIPE, SIG_IGN);
  (void)signal(SIGTERM, end);
  if (!flash_begin(&port, image, &facts)) return fail("the image cannot be started");
  mdm_actions_begin(&device);
  enum mdm_error error = mdm_begin(&device, &port, &facts, buffer, sizeof buffer, mdm_line_now_ms());
  if (error != MDM_OK) return fail(ERRORS[error]);
  if (flash_find_dump(&dump)) mdm_offer_dump(&device, &dump);
  for (bool stopping = false; !stopping || net_is_open();) {
    if (ends && !stopping) {
      stopping = true;
      mdm_stop(&device);
    }
    mdm_take_turn(LONGEST_MS);
  }
  return 0;
}
