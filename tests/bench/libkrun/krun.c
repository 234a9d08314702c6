/*
 * A program in a machine of libkrun, by its C interface: the peer of `caisson
 * run` in the benchmarks. Owns nothing but the order of calls.
 *
 * usage: krun KERNEL|- ROOT PROGRAM [ARGUMENT...]
 *
 * KERNEL is an ELF image; with - it is libkrun's own, from libkrunfw. One vCPU
 * and 512 MiB as caisson's default has them; no vsock, which a caller without a
 * network does not need. Ends with the program's status.
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <sys/resource.h>

/* libkrun ships no header in its Rust package; see its documentation. */
int32_t krun_create_ctx(void);
int32_t krun_set_vm_config(uint32_t ctx, uint8_t vcpus, uint32_t ram_mib);
int32_t krun_disable_implicit_vsock(uint32_t ctx);
int32_t krun_set_root(uint32_t ctx, const char *path);
int32_t krun_set_kernel(uint32_t ctx, const char *path, uint32_t format,
			const char *initramfs, const char *cmdline);
int32_t krun_set_exec(uint32_t ctx, const char *path, const char *const argv[],
		      const char *const envp[]);
int32_t krun_start_enter(uint32_t ctx);

enum { FORMAT_ELF = 1 };

static int failed(const char *step, int32_t code)
{
	fprintf(stderr, "krun: %s: %s\n", step, strerror(-code));
	return 1;
}

/* libkrun holds a descriptor for every file that the guest knows. */
static void allow_many_files(void)
{
	struct rlimit files;

	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
}

int main(int argc, char **argv)
{
	static const char *const environment[] = {"PATH=/bin", NULL};
	const char *const *arguments = (const char *const *)argv + 4;
	int32_t ctx, code;

	if (argc < 4) {
		fprintf(stderr, "usage: krun KERNEL|- ROOT PROGRAM [ARGUMENT...]\n");
		return 2;
	}
	allow_many_files();
	ctx = krun_create_ctx();
	if (ctx < 0)
		return failed("context", ctx);
	if ((code = krun_set_vm_config(ctx, 1, 512)) < 0)
		return failed("size", code);
	if ((code = krun_disable_implicit_vsock(ctx)) < 0)
		return failed("vsock", code);
	if ((code = krun_set_root(ctx, argv[2])) < 0)
		return failed("root", code);
	if (strcmp(argv[1], "-") != 0 &&
	    (code = krun_set_kernel(ctx, argv[1], FORMAT_ELF, NULL, NULL)) < 0)
		return failed("kernel", code);
	if ((code = krun_set_exec(ctx, argv[3], arguments, environment)) < 0)
		return failed("program", code);
	return failed("start", krun_start_enter(ctx));
}
