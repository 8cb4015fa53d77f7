# Makefile of kedge (GNU make).  `make help` lists the targets.
#
# Everything that is generated goes to build/<variant>/; build/kedge links to the release program.  Sources are found by
# wildcard: a new file in a module, tests/unit/test_*.c, tests/fuzz/fuzz_*.c, tests/cli/*.sh needs no line here.

VERSION := 0.1.0
VARIANT ?= release
PREFIX ?= /usr/local
CC := gcc
CLANG ?= clang

SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules
Q := $(if $(V),,@)
say = $(if $(V),,@printf '%-8s %s\n' $(1) $(2))

# --- packages of Debian 12: the only list ---------------------------------------------------------------------------
DEPS_BUILD := build-essential pkg-config libzstd-dev libsodium-dev libssl-dev zlib1g-dev libdeflate-dev libisal-dev libjansson-dev libxxhash-dev libexpat1-dev libgcrypt20-dev libcurl4-openssl-dev libarchive-dev liblzma-dev
DEPS_RUN := qemu-utils e2fsprogs scdoc jq
DEPS_TEST := libarchive-tools xz-utils zstd bzip2 lz4 libcmocka-dev python3 python3-nacl python3-zstandard mandoc bsdextrautils openssl qemu-system-x86 socat python3-libqcow python3-libvmdk python3-libvhdi 7zip gdisk cryptsetup-bin libvirt-clients libxml2-utils
# for `make check-ci` and `check-long`: servers of S3, 130 MB to fetch, and what makes machines to boot
DEPS_CI := busybox-static cpio mmdebstrap fdisk curl ceph-mon ceph-osd radosgw ceph-common swift-proxy swift-account swift-container swift-object
DEPS_MODEL := spin gcc libc6-dev
DEPS_LINT := clang clang-tidy libclang-rt-dev cppcheck bear

PKGS := libisal libzstd libsodium libcrypto zlib libdeflate jansson libxxhash expat libgcrypt gpg-error libcurl libarchive liblzma

# --- flags ----------------------------------------------------------------------------------------------------------
WARN := -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes -Wvla -Wundef -Wwrite-strings
CPPFLAGS_ALL := -I. -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -DKEDGE_VERSION='"$(VERSION)"' -include base/banned.h
CFLAGS_ALL := -std=c17 -g -fvisibility=hidden $(WARN)
LDFLAGS_ALL := -pthread
ifneq ($(DEV)$(CI),)
CFLAGS_ALL += $(if $(filter release debug,$(VARIANT)),-Werror)	# sanitizers make gcc warn of its own casts
endif

CFLAGS_release := -O2 -D_FORTIFY_SOURCE=2 -fstack-protector-strong -fPIE
LDFLAGS_release := -pie -Wl,-z,relro,-z,now
CFLAGS_debug := -O0 -fPIE
LDFLAGS_debug := -pie
CFLAGS_asan := -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
LDFLAGS_asan := -fsanitize=address,undefined
CFLAGS_tsan := -O1 -fno-omit-frame-pointer -fsanitize=thread
LDFLAGS_tsan := -fsanitize=thread
CFLAGS_fuzz := -O1 -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
LDFLAGS_fuzz := -fsanitize=address,undefined
ifeq ($(VARIANT),fuzz)
CC := $(CLANG)
endif
ifeq ($(filter $(VARIANT),release debug asan tsan fuzz),)
$(error VARIANT is one of release, debug, asan, tsan)
endif

# Without its libraries nothing below can work: say so in one line instead of a page of compiler errors.
NO_LIBS := deps deps-test deps-ci deps-lint deps-model check-model help clean dist check-includes check demo bench
ifneq ($(filter-out $(NO_LIBS),$(or $(MAKECMDGOALS),all)),)
ifneq ($(shell pkg-config --exists $(PKGS) 2>/dev/null && echo ok),ok)
$(error Packages are missing: run `make deps` (as root; Debian 12) and try again)
endif
PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS))
PKG_LIBS := $(shell pkg-config --libs $(PKGS))
endif

ALL_CFLAGS = $(CPPFLAGS_ALL) $(CFLAGS_ALL) $(CFLAGS_$(VARIANT)) $(PKG_CFLAGS) $(CFLAGS)
ALL_LDFLAGS = $(LDFLAGS_ALL) $(LDFLAGS_$(VARIANT)) $(LDFLAGS)
ALL_LIBS = $(PKG_LIBS) -lm

# --- sources --------------------------------------------------------------------------------------------------------
B := build/$(VARIANT)
MODULES := base formats formats/* transport transport/* repo repo/ingest restore cli
HEADERS := $(sort $(wildcard $(MODULES:=/*.h)))
LIB_SRC := $(filter-out cli/main.c,$(sort $(wildcard $(MODULES:=/*.c))))
LIB_OBJ := $(LIB_SRC:%.c=$(B)/%.o)
LIB := $(B)/libkedge.a
PROGRAM := $(if $(wildcard cli/main.c),$(B)/kedge)

UNIT_SRC := $(sort $(wildcard tests/unit/test_*.c))
UNIT := $(UNIT_SRC:tests/unit/%.c=$(B)/unit/%)
SUPPORT_OBJ := $(patsubst %.c,$(B)/%.o,$(sort $(wildcard tests/support/*.c)))
FUZZ_SRC := $(sort $(wildcard tests/fuzz/fuzz_*.c))
REPLAY := $(FUZZ_SRC:tests/fuzz/%.c=$(B)/replay/%)
FUZZERS := $(FUZZ_SRC:tests/fuzz/%.c=$(B)/fuzzers/%)
HELPERS := $(patsubst tests/helpers/%.c,$(B)/helpers/%,$(sort $(wildcard tests/helpers/*.c)))
PRELOADS := $(patsubst tests/preload/%.c,$(B)/preload/%.so,$(sort $(wildcard tests/preload/*.c)))
SCENARIOS := $(if $(PROGRAM),$(filter-out %/lib.sh,$(sort $(wildcard tests/cli/*.sh tests/e2e/*.sh))))
MAN := $(patsubst docs/%.scd,build/man/%,$(sort $(wildcard docs/*.scd)))

.PHONY: all lib program tests-build unit help deps deps-test deps-ci deps-lint deps-model check check-ci check-long check-model check-asan check-tsan \
	check-includes check-headers fuzz tidy cppcheck man install uninstall demo dist clean FORCE

all: $(LIB) $(if $(PROGRAM),build/kedge)

lib: $(LIB)
program: $(PROGRAM)

build/kedge: build/release/kedge
	$(Q)ln -sfn release/kedge $@
ifneq ($(VARIANT),release)
build/release/kedge: FORCE
	$(Q)$(MAKE) --no-print-directory VARIANT=release program
endif

# --- compiling ------------------------------------------------------------------------------------------------------
# The flags are a file that changes only when they do: everything depends on it.
$(B)/flags: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' $(call shquote,$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) $(ALL_LIBS)) | cmp -s - $@ || \
		printf '%s\n' $(call shquote,$(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS) $(ALL_LIBS)) > $@
shquote = '$(subst ','\'',$(1))'

$(B)/%.o: %.c $(B)/flags
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -MMD -MP -c $< -o $@

# The list of objects is part of the archive's identity: a removed source must vanish from it.
$(B)/objects: FORCE
	@mkdir -p $(@D)
	@echo '$(LIB_OBJ)' | cmp -s - $@ || echo '$(LIB_OBJ)' > $@

$(LIB): $(LIB_OBJ) $(B)/objects
	$(call say,AR,$@)
	$(Q)rm -f $@ && ar rcs $@ $(LIB_OBJ)

LINK = $(CC) $(ALL_CFLAGS) $(ALL_LDFLAGS)

$(B)/kedge: $(B)/cli/main.o $(LIB)
	$(call say,LD,$@)
	$(Q)$(LINK) $^ -o $@ $(ALL_LIBS)

$(B)/unit/%: $(B)/tests/unit/%.o $(SUPPORT_OBJ) $(LIB)
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(LINK) $^ -o $@ -lcmocka $(ALL_LIBS)

$(B)/replay/%: $(B)/tests/fuzz/%.o $(B)/tests/fuzz/replay_main.o $(LIB)
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(LINK) $^ -o $@ $(ALL_LIBS)

$(B)/fuzzers/%: $(B)/tests/fuzz/%.o $(LIB)
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(LINK) -fsanitize=fuzzer $^ -o $@ $(ALL_LIBS)

$(B)/helpers/%: $(B)/tests/helpers/%.o $(SUPPORT_OBJ) $(LIB)
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(LINK) $^ -o $@ -lcmocka $(ALL_LIBS)

# Loaded before libc and the libraries (LD_PRELOAD) to make them fail; no part of the program.
$(B)/preload/%.so: tests/preload/%.c $(B)/flags
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) -I. -D_GNU_SOURCE -std=c17 -O2 -g -fPIC -shared $(WARN) -MMD -MP -MF $(@:.so=.d) $(if $(DEV)$(CI),-Werror) $(PKG_CFLAGS) $< -o $@ -ldl -pthread

.SECONDARY:
-include $(shell find $(B) -name '*.d' 2>/dev/null)

# --- tests ----------------------------------------------------------------------------------------------------------
# tests/run.sh runs each item with a time limit and ends with "N passed, N failed, N skipped".  ONLY=text limits any of
# these to the items whose name contains it.
tests-build: $(UNIT) $(REPLAY) $(HELPERS) $(PRELOADS) $(PROGRAM)

RUN = BUILD_ROOT=build ONLY='$(ONLY)' tests/run.sh

# The README's commands do all set-up: packages first, then a make of its own that finds them.
check: deps-test
	$(Q)$(MAKE) --no-print-directory -j$(shell nproc) all tests-build
	$(Q)$(MAKE) --no-print-directory run-check
.PHONY: run-check
run-check:
	$(Q)$(RUN) make:check-includes make:check-headers $(UNIT) $(REPLAY) $(SCENARIOS)

unit: tests-build
	$(Q)$(RUN) $(UNIT) $(REPLAY)

# Unit tests, corpora and scenarios with a sanitizer's program.
check-asan check-tsan: check-%:
	$(Q)$(MAKE) --no-print-directory VARIANT=$* tests-build
	$(Q)LIMIT=$(or $(LIMIT),600) $(RUN) $(UNIT:build/$(VARIANT)/%=build/$*/%) $(REPLAY:build/$(VARIANT)/%=build/$*/%) \
		$(SCENARIOS:%=$*:%)

# The second tier: what `make check` runs is run again only under sanitizers; under TSan what has many threads.
# The long ones first, so that both CPUs are busy to the end.
TSAN_SCENARIOS := tests/ci/concurrent.sh tests/ci/threads.sh
TSAN_UNIT := $(addprefix build/tsan/unit/test_,crypt ingest_run qcow2_read queue s3 sha256 store tree_of workers writer_qcow2 writer_repo)
# Under ASan what reads and writes images and objects that others made; `make check-asan` runs all.
ASAN_SCENARIOS := $(filter-out %/golden.sh %/10-first-backup.sh %/15-% %/35-% %/40-% %/60-% %/70-% %/80-% %/90-% %/95-% \
	%/concurrent.sh %/independent-reader.sh %/protocol.sh %/reader-selftest.sh %/sha256sum.sh,$(wildcard tests/e2e/*.sh)) \
	$(wildcard tests/cli/11-*.sh tests/cli/13-*.sh tests/cli/17-*.sh tests/cli/18-*.sh tests/cli/2[03]-*.sh)
check-ci: deps-ci all tests-build
	$(Q)$(MAKE) --no-print-directory VARIANT=asan tests-build
	$(Q)$(MAKE) --no-print-directory VARIANT=tsan program $(TSAN_UNIT)
	$(Q)LIMIT=$(or $(LIMIT),600) $(RUN) $(sort $(wildcard tests/ci/*.sh)) $(TSAN_SCENARIOS:%=tsan:%) $(TSAN_UNIT) \
		$(UNIT:build/$(VARIANT)/%=build/asan/%) $(REPLAY:build/$(VARIANT)/%=build/asan/%) $(ASAN_SCENARIOS:%=asan:%)

# The third tier takes hours; what passed is not run again until the program or the script changes.
check-long: deps-ci all tests-build
	$(Q)[ -n '$(ONLY)' ] || $(MAKE) --no-print-directory check-asan check-tsan
	$(Q)LIMIT=$(or $(LIMIT),86400) JOBS=1 KEEP=build/long $(RUN) $(sort $(wildcard tests/long/*.sh))

# Speed and sizes beside restic, borg and qemu-img: CORPUS=DIR; ROUNDS=n, ONLY=sections, TOOLS=names (tests/bench/README.md).
bench: deps-test
	$(Q)$(MAKE) --no-print-directory -j$(shell nproc) all
	$(Q)tests/bench/run.sh
.PHONY: bench

# The protocol of many writers and collectors, every order of its steps (docs/model.md); tests/long/model.sh the rest.
check-model: deps-model
	$(Q)BUILD=build JOBS=$(shell nproc) tests/model/run.sh check

check-includes:
	$(Q)tests/check-includes.sh

# Each header compiled alone: none may lean on what its users include before it.
check-headers:
	$(Q)for h in $(HEADERS); do \
		echo "#include \"$$h\"" | $(CC) $(ALL_CFLAGS) -Werror -fsyntax-only -x c - || { echo "$$h does not stand alone"; exit 1; }; \
	done

# FUZZ=name (of tests/fuzz/fuzz_name.c; default all), FUZZ_SECONDS=n each.  Corpora grow in build/fuzz/corpus.
FUZZ_SECONDS ?= 60
fuzz:
	$(Q)$(MAKE) --no-print-directory VARIANT=fuzz run-fuzz FUZZ='$(FUZZ)' FUZZ_SECONDS='$(FUZZ_SECONDS)'
.PHONY: run-fuzz
run-fuzz: $(if $(FUZZ),$(B)/fuzzers/fuzz_$(FUZZ),$(FUZZERS))
	$(Q)for f in $^; do \
		n=$${f##*/fuzz_}; mkdir -p build/fuzz/corpus/$$n build/fuzz/crashes tests/fuzz/corpus/$$n; \
		echo "fuzz $$n for $(FUZZ_SECONDS) s"; \
		$$f -max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 \
			-artifact_prefix=build/fuzz/crashes/$$n- build/fuzz/corpus/$$n tests/fuzz/corpus/$$n || exit 1; \
	done

# The analyzer can't know that a failed call returns a negative code: its path reports are advice, the rest are errors.
TIDY_OFF := bugprone-easily-swappable-parameters bugprone-reserved-identifier bugprone-suspicious-string-compare \
	clang-analyzer-security.insecureAPI.DeprecatedOrUnsafeBufferHandling clang-analyzer-valist.Uninitialized \
	clang-analyzer-deadcode.DeadStores
empty :=
tidy:
	$(Q)clang-tidy --quiet --checks='-*,bugprone-*,clang-analyzer-*$(subst $(empty) ,,$(TIDY_OFF:%=,-%))' \
		--warnings-as-errors='bugprone-*' $(LIB_SRC) $(wildcard cli/main.c) -- $(CPPFLAGS_ALL) -std=c17 $(PKG_CFLAGS)

# Uninitialised, leaks: it knows neither the error convention nor CLEANUP; gcc and ASan find these.
cppcheck:
	$(Q)cppcheck --quiet --std=c11 --enable=warning,portability --inline-suppr --error-exitcode=1 -I. \
		--suppress=missingIncludeSystem --suppress=ctuuninitvar --suppress=uninitvar --suppress=memleak --suppress=resourceLeak \
		--suppress=internalAstError -D__GNUC__ $(MODULES)

compile_commands.json: FORCE
	$(Q)$(MAKE) clean && bear -- $(MAKE) all tests-build

# --- documents, installing, the rest --------------------------------------------------------------------------------
man: $(MAN)
build/man/%: docs/%.scd
	$(call say,MAN,$@)
	@mkdir -p $(@D)
	$(Q)scdoc < $< > $@

install: all man
	install -D -m 755 build/release/kedge $(DESTDIR)$(PREFIX)/bin/kedge
	$(Q)for m in $(MAN); do install -D -m 644 $$m $(DESTDIR)$(PREFIX)/share/man/man$${m##*.}/$${m##*/} || exit 1; done
	$(Q)install -d $(foreach d,bash-completion/completions zsh/site-functions fish/vendor_completions.d,$(DESTDIR)$(PREFIX)/share/$(d))
	$(Q)build/kedge help --completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/kedge
	$(Q)build/kedge help --completion zsh > $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_kedge
	$(Q)build/kedge help --completion fish > $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/kedge.fish

uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/kedge
	$(Q)for m in $(MAN); do rm -f $(DESTDIR)$(PREFIX)/share/man/man$${m##*.}/$${m##*/}; done
	rm -f $(DESTDIR)$(PREFIX)/share/bash-completion/completions/kedge $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_kedge \
		$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/kedge.fish

demo: deps
	$(Q)$(MAKE) --no-print-directory -j$(shell nproc) all
	$(Q)tests/demo.sh

dist:
	@mkdir -p build
	git archive --prefix=kedge-$(VERSION)/ -o build/kedge-$(VERSION).tar.gz HEAD

clean:
	rm -rf build/release build/debug build/asan build/tsan build/fuzz build/man build/model build/kedge

# Installs what is missing and nothing else; SUDO= to override.
SUDO ?= $(if $(filter 0,$(shell id -u)),,sudo)
install-packages = $(Q)missing=; for p in $(1); do \
		dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$p"; done; \
	[ -z "$$missing" ] || { echo "installing:$$missing"; $(SUDO) apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -y -qq --no-install-recommends $$missing; }

deps:
	$(call install-packages,$(DEPS_BUILD) $(DEPS_RUN))
deps-test:
	$(call install-packages,$(DEPS_BUILD) $(DEPS_RUN) $(DEPS_TEST) $(DEPS_MODEL))
deps-ci:
	$(call install-packages,$(DEPS_BUILD) $(DEPS_RUN) $(DEPS_TEST) $(DEPS_MODEL) $(DEPS_CI))
	$(Q)tests/guest/kernel.sh build/guest/kernel || echo "tests/ci/boot.sh will be skipped"
deps-model:
	$(call install-packages,$(DEPS_MODEL))
deps-lint:
	$(call install-packages,$(DEPS_BUILD) $(DEPS_RUN) $(DEPS_TEST) $(DEPS_LINT))

help:
	@echo 'make [TARGET] [V=1] [DEV=1: warnings are errors] [VARIANT=release|debug|asan|tsan]'
	@echo '  all             the program: build/kedge (default)'
	@echo '  deps            install missing Debian packages to build and run (deps-test, deps-ci, deps-lint: more)'
	@echo '  check           first tier of tests, about 2 minutes; ONLY=text for those whose name contains it'
	@echo '  unit            unit tests and fuzz corpora alone; check-asan, check-tsan: first tier under a sanitizer'
	@echo '  check-ci        second tier: sanitizers, differential images, samples; about 12 minutes'
	@echo '  check-long      third tier: hours, resumable; results in build/long'
	@echo '  bench           beside restic, borg, qemu-img on CORPUS=DIR: ROUNDS=3 ONLY="first nights ..." (tests/bench/README.md)'
	@echo '  check-model     the protocol of many writers and collectors, explored by spin; some minutes'
	@echo '  check-includes  who includes whom; check-headers: each header compiles alone'
	@echo '  fuzz            libFuzzer (clang): FUZZ=name FUZZ_SECONDS=60'
	@echo '  tidy cppcheck   static analysis; compile_commands.json by bear'
	@echo '  man             manual pages; install, uninstall: PREFIX=/usr/local DESTDIR='
	@echo '  demo            the main job on a real image'
	@echo '  dist clean      source archive; remove build products (build/long is kept)'
