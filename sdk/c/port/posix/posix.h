/* The parts of the port for POSIX: durable records, connections, the flash of images. What they do for port/mqtt is in its
 * headers. */
#ifndef MDM_POSIX_H
#define MDM_POSIX_H
#include "mdm.h"

/* files.c: records in a folder. Each change is durable when the call returns: write, fsync, rename, fsync the folder. */
bool files_begin(const char *folder); /* creates it, mode 0700 */
bool files_write(const char *name, const void *data, size_t size);
int32_t files_read(const char *name, void *data, size_t size);
int32_t files_load(const char *path, void *data, size_t size); /* any file */
void files_path(char path[4096], const char *name);
/* Calls that change what is durable, or publish, come to named points, `name:before` and so on. With the environment variable
 * MDM_CUT_AT each is written to standard output, and at the n-th that it names, `identity:written#1` or any by `*#7`, the
 * process kills itself: tests cut the power there. */
void files_fault(const char *name, const char *moment);

/* net.c: one connection, with TLS or without. */
bool net_open(const char *host, uint16_t port, bool tls, const char *ca_certificate);
bool net_send(const void *data, size_t size);
/* Waits at most `wait_ms`; returns the number of bytes, 0 if none came, -1 if the connection has ended. */
int net_receive(void *data, size_t size, uint32_t wait_ms);
bool net_is_open(void);
void net_close(void);
bool net_can_trust(void *context, const char *ca_certificate);
const char *net_error(void); /* of the last call that failed: a line for people */

/* flash.c: app partitions, the bootloader's record, and a core dump, as files in the same folder. */
/* Starts the active image, and puts what it is into `facts`; installs `image` at the first start. Without any image
 * the device takes none. The dump is the file coredump.bin: the SHA-256 of the ELF that crashed, its version (32 bytes
 * each), the memory. */
bool flash_begin(const struct mdm_port *port, const char *image, struct mdm_facts *facts);
bool flash_find_dump(struct mdm_dump *dump);
#endif
