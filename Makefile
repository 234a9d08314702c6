# One door to everything: `make help` lists it.
#
# Owns set-up (packages, kernel, images) and the order of builds. Expensive
# artefacts lie in $(CACHE), outside the checkout, by the hash of their inputs.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

TARGET := x86_64-unknown-linux-gnu
PROFILE ?= release
DIST ?= $(CURDIR)/target/dist
PREFIX ?= /usr/local
BUILD := target/$(TARGET)/$(PROFILE)
# Beside the guest images, for `caisson doctor`.
WRITE_SUMS = cd $(DIST)/share/caisson && \
	find . -maxdepth 1 -type f ! -name SHA256SUMS -printf '%P\n' | sort | xargs sha256sum >SHA256SUMS
PACKAGES := gcc make flex bison bc libelf-dev xz-utils zstd lz4 cpio busybox-static \
            libcap-ng-dev libseccomp-dev qemu-system-x86 mmdebstrap e2fsprogs jq attr iproute2

# What of the suites of others fits the time of every change: a few minutes.
RUNC_SELECTION := capabilities create cwd delete env events exec kill list ps root spec \
                  start start_detached start_hello state umask
RUNTIME_TOOLS_SELECTION := create kill kill_no_effect hostname process_user

# Static programs: they start fast and can be executed in an empty root.
export CARGO_BUILD_TARGET := $(TARGET)
export RUSTFLAGS := -C target-feature=+crt-static

.PHONY: help
help: ## List what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 20

.PHONY: deps
deps: ## Install the Debian packages that everything here needs
	@missing=$$(for p in $(PACKAGES); do dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q ' installed$$' || echo $$p; done); \
	if [ -n "$$missing" ]; then \
		apt-get update -qq || true; \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	fi

.PHONY: programs
programs: deps
	cargo build --locked --profile $(PROFILE) --bins \
		-p caisson -p caisson-vmm -p caisson-fs -p caisson-jail -p caisson-agent -p caisson-shim
	mkdir -p $(DIST)/bin $(DIST)/libexec/caisson $(DIST)/share/caisson
	install -m 0755 $(BUILD)/caisson $(BUILD)/containerd-shim-caisson-v2 $(DIST)/bin/
	install -m 0755 $(addprefix $(BUILD)/,caisson-vmm caisson-vsock caisson-fs caisson-jail caisson-pause) $(DIST)/libexec/caisson/
	kernel-config/initramfs.sh $(BUILD)/caisson-agent $(DIST)/share/caisson/initramfs.cpio
	$(WRITE_SUMS)

.PHONY: kernel
kernel: deps ## Build caisson's own guest kernel (15 to 30 CPU-minutes, once)
	vmlinux=$$(kernel-config/build.sh | tail -n 1); \
	mkdir -p $(DIST)/share/caisson; \
	install -m 0644 $$vmlinux $(DIST)/share/caisson/vmlinux
	$(WRITE_SUMS)

.PHONY: stock-kernel
stock-kernel: deps programs ## Fetch the distribution's kernel (seconds, no build)
	stock=$$(kernel-config/stock.sh | tail -n 1); \
	install -m 0644 $$stock/vmlinux $(DIST)/share/caisson/vmlinux-stock; \
	kernel-config/initramfs.sh $(BUILD)/caisson-agent $(DIST)/share/caisson/initramfs-stock.cpio $$stock/modules
	$(WRITE_SUMS)

# The first demo doesn't wait for a kernel build: one that is cached is used,
# else the distribution's.
.PHONY: some-kernel
some-kernel: programs
	if kernel-config/build.sh --print-path >/dev/null 2>&1; then $(MAKE) --no-print-directory kernel; \
	else $(MAKE) --no-print-directory stock-kernel; fi

.PHONY: demo
demo: some-kernel ## Run a container in its own VM and print what it says
	tests/demo.sh $(DIST)

.PHONY: dist
dist: programs kernel ## Everything that is installed, in target/dist

.PHONY: install
install: dist ## Install below PREFIX (/usr/local)
	mkdir -p $(PREFIX)
	cp -r $(DIST)/. $(PREFIX)/

.PHONY: package
package: dist ## A .deb and a tarball with install.sh, in target/package
	$(MAKE) --no-print-directory package-only

# Of what lies in DIST, without building that.
.PHONY: package-only
package-only: deps
	rm -rf target/package
	packaging/build.sh $(DIST) target/package

.PHONY: test-package
test-package: package ## Build them twice; install, upgrade and remove them in fresh roots
	packaging/test/run.sh $(DIST) target/package

.PHONY: lint
lint: deps ## Format, clippy, documentation: no warnings
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --quiet

.PHONY: test-unit
test-unit: lint ## Unit and property tests, and the rules of the tree
	cargo test --locked --workspace
	cargo test --locked --manifest-path tests/outer-vm/commandd/Cargo.toml --target-dir target/outer-vm

.PHONY: tidy
tidy: ## Figures of the tree's shape, and the ceiling of each
	cargo test --quiet --locked -p caisson-tests --test tidy -- --nocapture figures

# Each target for SECONDS, from cases that are kept in tests/fuzz/corpora; only
# those of NAMES, if it is given. The seed makes a run repeatable. FUZZ_PROFILE=dev
# needs no build beside that of the unit tests, and is slower.
FUZZ_PROFILE ?= fuzz
SECONDS ?= 30
SEED ?= 1
.PHONY: fuzz
fuzz: deps ## Fuzz targets, SECONDS=30 each (NAMES='...': only these, SEED=1)
	CAISSON_FUZZ_SECONDS=$(SECONDS) CAISSON_FUZZ_SEED=$(SEED) \
		cargo run --quiet --locked --profile $(FUZZ_PROFILE) -p caisson-fuzz --bin caisson-fuzz -- $(NAMES) \
		2>target/fuzz.log || { tail -n 20 target/fuzz.log; exit 1; }
	CAISSON_FUZZ_SECONDS=$(SECONDS) CAISSON_FUZZ_SEED=$(SEED) \
		cargo test --quiet --locked -p caisson-fs --test server -- random --nocapture

.PHONY: suite-schema
suite-schema: deps ## What caisson prints, against the schemas of OCI, beside runc
	mkdir -p target/suites
	SUITE_JSON=$(CURDIR)/target/suites/schema.json cargo test --locked -p caisson --test schema

.PHONY: test-tcg
test-tcg: dist stock-kernel ## Whole containers in emulated machines, on this host
	tests/run.sh tcg $(DIST)

.PHONY: test-kvm
test-kvm: dist stock-kernel ## The same tests on real KVM, in the test host
	tests/run.sh kvm:1/2 $(DIST) >target/test-kvm.log 2>&1 </dev/null & half=$$!; \
	status=0; \
	tests/run.sh kvm:2/2 $(DIST) || status=$$?; \
	wait $$half || status=$$?; \
	cat target/test-kvm.log; \
	exit $$status

# runc's own suite, OCI's runtime-tools, and two suites for file systems, each
# beside runc. MACHINE=tcg runs them here, MACHINE=kvm in the test host.
MACHINE ?= tcg
SUITES := suite-runc suite-runtime-tools suite-pjdfstest suite-fsx
.PHONY: $(SUITES)
suite-runc: dist ## runc's tests, runc and caisson side by side (MACHINE=kvm: real KVM)
suite-runtime-tools: dist ## OCI's validation programs, the same way
suite-pjdfstest: dist ## POSIX file system tests on a container's root, the same way
suite-fsx: dist ## Random file operations on a container's root, the same way
$(SUITES):
	tests/suites/run.sh $(@:suite-%=%) $(MACHINE) $(DIST) $(NAMES)

.PHONY: test-suites
test-suites: dist suite-schema ## A selection of all suites on emulated machines
	status=0; \
	for part in 'fsx auto' 'pjdfstest auto' 'runtime-tools $(RUNTIME_TOOLS_SELECTION)' 'runc $(RUNC_SELECTION)'; do \
		set -- $$part; suite=$$1; shift; \
		tests/suites/run.sh $$suite tcg $(DIST) "$$@" || status=$$?; \
	done; \
	exit $$status

# Each runs in a test host of its own; the older ones are those of Debian's suites, a
# version is that of containerd.
SHIM := io.containerd.caisson.v2
ENGINES := docker docker:$(SHIM) docker-faults docker-faults:$(SHIM) docker@trixie docker@trixie:$(SHIM) docker@bookworm \
           podman containerd containerd@trixie containerd@bookworm containerd@v2.4.2 \
           cri cri@v2.4.2
# In one test host. Podman goes before Docker, which has the host drop what is
# forwarded and isn't its own.
export SHORT_ENGINES := podman containerd cri docker:$(SHIM) docker

.PHONY: test-engines
test-engines: dist ## Docker, Podman, containerd and pods with caisson as their runtime
	status=0; \
	for engine in $(ENGINES); do tests/engines/run.sh $(DIST) $$engine || status=$$?; done; \
	exit $$status

.PHONY: test-engines-short
test-engines-short: dist ## The essentials of them, in one test host
	SHORT=1 tests/engines/run.sh $(DIST) '$(SHORT_ENGINES)'

.PHONY: test
test: dist stock-kernel ## All tests: test-unit, test-tcg, test-suites, fuzz, test-package; of test-kvm and test-engines a part
	tests/all.sh $(DIST)

.PHONY: soak
soak: dist stock-kernel ## The same tests with every count in full
	CAISSON_SOAK=1 tests/run.sh tcg $(DIST)
	CAISSON_SOAK=1 tests/run.sh kvm $(DIST)

.PHONY: bench
bench: dist ## Benchmarks beside runc, crun, QEMU and libkrun; writes target/bench.json
	tests/bench.sh $(DIST)

.PHONY: bench-network
bench-network: dist ## TCP beside runc, with and without vhost-net, 1 and 2 virtual CPUs
	tests/bench-network.sh $(DIST)

.PHONY: bench-engines
bench-engines: dist ## What containers cost under Docker and containerd, beside runc
	tests/bench.sh $(DIST) engines
