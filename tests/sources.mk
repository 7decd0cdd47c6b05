# Test programs: every tests/<folder>/<pattern>.c becomes $(O)/tests/<folder>/<name>.

# As objs of the Makefile, which is read after this file.
test_objs = $(patsubst %.c,$(O)/obj/%.o,$(1))

TEST_LIB_SRCS := $(sort $(wildcard tests/lib/t*.c))
TEST_PLAIN_SRCS := $(sort $(wildcard tests/hook/test_*.c tests/platform/assume_*.c \
	tests/stress/stress_*.c tests/fuzz/fuzz_*.c tests/vm/*.c))
TEST_CMOCKA_SRCS := $(sort $(wildcard tests/unit/test_*.c tests/agent/test_*.c))

# Any of them may use cmocka; those that do are left out where it is missing.
CMOCKA_LIBS := $(shell $(PKG_CONFIG) --silence-errors --libs cmocka)
ifeq ($(CMOCKA_LIBS),)
TEST_CMOCKA_SRCS += $(shell grep -ls cmocka.h $(TEST_PLAIN_SRCS))
TEST_PLAIN_SRCS := $(filter-out $(TEST_CMOCKA_SRCS),$(TEST_PLAIN_SRCS))
endif
TEST_SRCS := $(TEST_PLAIN_SRCS) $(if $(CMOCKA_LIBS),$(TEST_CMOCKA_SRCS))

test_programs = $(patsubst %.c,$(O)/%,$(filter $(addsuffix /%,$(addprefix tests/,$(1))),$(TEST_SRCS)))

# What else lies in a folder is shared by its programs.
test_helpers = $(filter-out $(TEST_SRCS) $(TEST_CMOCKA_SRCS),$(sort $(wildcard tests/$(1)/*.c)))
TEST_HELPER_SRCS := $(foreach folder,unit agent platform fuzz hook stress,$(call test_helpers,$(folder)))
$(foreach folder,unit agent platform fuzz stress,$(eval \
	$(call test_programs,$(folder)): $(call test_objs,$(call test_helpers,$(folder)))))

# An agent test may use the agent's own files: all of them but those with a main().
TEST_AGENT_SRCS = $(filter-out %/main.c,$(AGENT_SRCS))

$(call test_objs,$(TEST_LIB_SRCS) $(TEST_SRCS) $(TEST_HELPER_SRCS)): EXTRA_CFLAGS = -Itests/lib -Iresidency-agent $(AGENT_CFLAGS)

$(O)/tests/libt.a: $(call test_objs,$(TEST_LIB_SRCS))
	$(call say,AR,$@)
	@mkdir -p $(@D)
	$(Q)rm -f $@ && $(AR) rcs $@ $^

$(O)/tests/libagent.a: $(call test_objs,$(TEST_AGENT_SRCS))
	$(call say,AR,$@)
	@mkdir -p $(@D)
	$(Q)rm -f $@ && $(AR) rcs $@ $^

$(call test_programs,agent fuzz): $(O)/tests/libagent.a
$(call test_programs,agent fuzz): TEST_LIBS = $(AGENT_LIBS)

$(patsubst %.c,$(O)/%,$(TEST_SRCS)): $(O)/%: $(O)/obj/%.o $(O)/tests/libt.a $(O)/libshmt.a
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $(filter %.o,$^) $(filter %/libt.a,$^) \
		$(filter %/libagent.a,$^) $(filter %/libshmt.a,$^) $(TEST_LIBS) $(CMOCKA_LIBS)

# The differential fuzzer: its driver, and the interpreter of programs, which is what runs preloaded.
DIFF_RUN_SRCS := $(addprefix tests/fuzz/diff/,run.c model.c prog.c) $(sort $(wildcard tests/fuzz/diff/ops_*.c))
DIFF_SRCS := $(addprefix tests/fuzz/diff/,diff.c jobs.c exec.c agent.c shrink.c gen.c gen_op.c prog.c)
DIFF_PROGRAMS := $(addprefix $(O)/tests/fuzz/diff/,diff diff_run)

$(call test_objs,$(DIFF_SRCS) $(DIFF_RUN_SRCS)): EXTRA_CFLAGS = -Itests/lib
$(O)/tests/fuzz/diff/diff: $(call test_objs,$(DIFF_SRCS))
$(O)/tests/fuzz/diff/diff_run: $(call test_objs,$(DIFF_RUN_SRCS))
$(DIFF_PROGRAMS): $(O)/tests/libt.a
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $(filter %.o,$^) $(filter %/libt.a,$^)

# The foreign library of a hook test, initialised before libcoloc.so.
$(O)/tests/hook/libearly.so: $(call test_objs,tests/hook/early.c) $(O)/tests/libt.a
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) -shared -o $@ $^

$(O)/tests/hook/test_before_constructors: $(O)/tests/hook/libearly.so
$(O)/tests/hook/test_before_constructors: TEST_LIBS = -L$(@D) -learly -Wl,-rpath,'$$ORIGIN'

# The bypass detector: its watcher must not be preloaded itself, so it is static.
BYPASS := $(addprefix $(O)/tests/bypass/,watch libmark.so loud ping_pong)
$(call test_objs,$(wildcard tests/bypass/*.c)): EXTRA_CFLAGS = -Itests/lib

$(O)/tests/bypass/watch: $(call test_objs,tests/bypass/watch.c tests/bypass/moved.c)
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) -static -o $@ $^

$(O)/tests/bypass/libmark.so: $(call test_objs,tests/bypass/mark.c)
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) -shared -o $@ $^

$(O)/tests/bypass/loud $(O)/tests/bypass/ping_pong: $(O)/%: $(O)/obj/%.o $(O)/tests/libt.a
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $^

# Never preloaded, and never instrumented.
$(O)/tests/hook/echo_static: tests/hook/echo_static.c
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) -O2 -static -o $@ $<

$(O)/tests/hook/test_exec_without_us: | $(O)/tests/hook/echo_static

TESTS_RUN = V=$(V) T_BUILD=$(abspath $(O)) tests/run.sh

ifeq ($(CMOCKA_LIBS),)
no_cmocka = @echo 'cmocka is not installed: left out: $(notdir $(TEST_CMOCKA_SRCS))'
endif

test-programs: $(patsubst %.c,$(O)/%,$(TEST_SRCS)) $(if $(SAN),,$(BYPASS) $(DIFF_PROGRAMS))
	$(no_cmocka)

check: all test-programs ## unit, platform, agent and hook tests, about a minute
	$(Q)$(TESTS_RUN) unit platform agent hook

stress: all $(call test_programs,stress) ## random bytes both ways while the agent drains and resumes
	$(Q)$(TESTS_RUN) stress

fuzz: all $(call test_programs,fuzz) ## every parser and every foreign structure
	$(Q)$(TESTS_RUN) fuzz

# N programs; SEED of the first one.
fuzz-diff: all $(DIFF_PROGRAMS) ## random socket programs, plain and on rings, until one differs, or N, or ^C
	$(Q)$(O)/tests/fuzz/diff/diff $(if $(SEED),--seed $(SEED)) $(if $(N),--programs $(N))

fuzz-inject: ## five faults, each built into a copy of the library: the fuzzer finds them within a minute
	$(Q)T_SEED=$(SEED) tests/fuzz/diff/inject.sh

model: ## check the Spin model of the switch
	$(Q)$(TESTS_RUN) model

e2e: all ## real programs in two network namespaces (root)
	$(Q)$(TESTS_RUN) e2e

test-bypass: all $(BYPASS) ## no call on a moved stream misses the hooks, and none is made per message (root)
	$(Q)$(TESTS_RUN) bypass
	$(Q)T_BUILD=$(abspath $(O)) tests/bypass/ratio_no_syscalls.sh

test-vm: all $(call test_programs,vm) ## virtual machines on QEMU that share an ivshmem device (root)
	$(Q)$(TESTS_RUN) vm

test-apps: all ## the application matrix: what went by ring, and nothing else differs (root); T_SHOW=1 shows the figures
	$(Q)scripts/deps.sh apps
	$(Q)$(TESTS_RUN) apps

soak: all ## the long ones: 1 GiB each way, a hundred kills (root)
	$(Q)T_SOAK=1 $(TESTS_RUN) soak

CPYTHON ?=
test-cpython: all ## CPython's own network tests, plain and preloaded; CPYTHON=quick: a few of them
	$(Q)scripts/deps.sh cpython
	$(Q)T_BUILD=$(abspath $(O)) tests/apps/cpython.sh $(CPYTHON)

# Variants are built by a make of their own, in folders of their own.
SANITIZERS ?= address undefined thread
san-%:
	$(Q)$(MAKE) --no-print-directory SAN=$* O=$(O)/san-$* all test-programs

test: all test-programs $(addprefix san-,$(SANITIZERS)) ## everything CI runs
	$(Q)T_NOISY=1 $(TESTS_RUN) lint unit platform agent hook model stress fuzz regress \
		$(foreach san,$(SANITIZERS),unit@$(san) stress@$(san)) e2e bypass vm

# ---- lint ----------------------------------------------------------------------------------------
LINT_C = $(shell git ls-files '*.c' '*.h')

lint: lint-format lint-symbols lint-cppcheck lint-tidy ## format, symbols, cppcheck, clang-tidy

lint-format:
	$(call say,FORMAT,)
	$(Q)clang-format --dry-run -Werror $(LINT_C)

lint-symbols: $(O)/libcoloc.so
	$(call say,SYMBOLS,$<)
	$(Q)tests/lib/symbols.sh $< preload/hooks.def $(call test_objs,$(PRELOAD_SRCS) $(SHMT_SRCS))

lint-cppcheck:
	$(call say,CPPCHECK,)
	$(Q)cppcheck --quiet --error-exitcode=1 --inline-suppr --std=c11 -j2 \
		--enable=warning,portability --suppress=missingIncludeSystem \
		-D_GNU_SOURCE -D__x86_64__ -Iinclude -Ishm-transport -Ipreload -Iresidency-agent -Itests/lib \
		$(filter %.c,$(LINT_C))

# One process per processor; .clang-tidy lists what is checked.
lint-tidy:
	$(call say,TIDY,)
	$(Q)printf '%s\n' $(filter-out tests/%,$(filter %.c,$(LINT_C))) | xargs -P "$$(nproc)" -n 4 \
		sh -c 'clang-tidy --quiet --warnings-as-errors="*" "$$@" -- -std=gnu11 -D_GNU_SOURCE \
		-DCOLOC_VERSION=\"0\" -DCOLOC_LIBDIR=\"/\" -DCOLOC_SBINDIR=\"/\" -Iinclude \
		-Ishm-transport -Ipreload -Iresidency-agent $(AGENT_CFLAGS) 2>/dev/null' tidy

.PHONY: test-programs check stress fuzz fuzz-diff fuzz-inject model e2e test-bypass test-vm test-apps soak test-cpython test lint lint-format \
	lint-symbols lint-cppcheck lint-tidy
