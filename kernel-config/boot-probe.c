/*
 * The /init of check-boot.sh: says how many ticks of the time stamp counter passed since
 * power-on, how much memory is left and which virtio devices have a driver; then ends the
 * machine. Talks through I/O ports (QEMU's debugcon and debug exit), so that no console driver
 * is part of the figures. Not part of the product.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/reboot.h>
#include <unistd.h>
#include <x86intrin.h>

enum { DEBUGCON_PORT = 0xe9, EXIT_PORT = 0x600, EXIT_BYTE = 0x5a };

static int ports = -1;

static void say(const char *format, ...)
{
	char line[512];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	for (const char *byte = line; *byte; byte++)
		pwrite(ports, byte, 1, DEBUGCON_PORT);
}

/* The number behind `field` in /proc/meminfo, in KiB; 0 when there is none. */
static unsigned long meminfo_kib(const char *field)
{
	char line[128];
	unsigned long kib = 0;
	FILE *file = fopen("/proc/meminfo", "r");

	while (file && fgets(line, sizeof(line), file))
		if (strncmp(line, field, strlen(field)) == 0)
			kib = strtoul(line + strlen(field), NULL, 10);
	if (file)
		fclose(file);
	return kib;
}

static void say_devices(void)
{
	char path[512], driver[512];
	struct dirent *entry;
	DIR *devices = opendir("/sys/bus/virtio/devices");

	while (devices && (entry = readdir(devices))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/sys/bus/virtio/devices/%s/driver", entry->d_name);
		ssize_t length = readlink(path, driver, sizeof(driver) - 1);
		driver[length < 0 ? 0 : length] = 0;
		say("device %s\n", length < 0 ? "without driver" : strrchr(driver, '/') + 1);
	}
}

int main(void)
{
	unsigned long long ticks = __rdtsc();
	char byte = EXIT_BYTE;

	mkdir("/dev", 0755);
	mkdir("/proc", 0755);
	mkdir("/sys", 0755);
	mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
	mount("proc", "/proc", "proc", 0, NULL);
	mount("sysfs", "/sys", "sysfs", 0, NULL);
	ports = open("/dev/port", O_RDWR);

	say("ticks %llu\n", ticks);
	say("cpus %ld\n", sysconf(_SC_NPROCESSORS_ONLN));
	say("total_kib %lu\n", meminfo_kib("MemTotal:"));
	say("free_kib %lu\n", meminfo_kib("MemFree:"));
	say_devices();

	pwrite(ports, &byte, 1, EXIT_PORT);
	/* Not reached where the exit port exists. */
	reboot(RB_POWER_OFF);
	return 1;
}
