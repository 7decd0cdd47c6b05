# Measuring programs: every bench/src/bench_*.c becomes $(O)/bench/<name>. The rest is Python.

# As objs of the Makefile, which is read after this file.
bench_objs = $(patsubst %.c,$(O)/obj/%.o,$(1))

BENCH_SRCS := $(sort $(wildcard bench/src/bench_*.c))
BENCH_PROGRAMS := $(patsubst bench/src/%.c,$(O)/bench/%,$(BENCH_SRCS))

$(call bench_objs,$(BENCH_SRCS) bench/src/bench.c): EXTRA_CFLAGS = -Ibench/src

$(BENCH_PROGRAMS): $(O)/bench/%: $(O)/obj/bench/src/%.o $(O)/obj/bench/src/bench.o $(O)/libshmt.a
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) -o $@ $(filter %.o,$^) $(filter %.a,$^)

bench-programs: $(BENCH_PROGRAMS)

BENCH_RUN = bench/bench.py --build $(abspath $(O))

bench: all bench-programs ## every figure as a ratio, side by side (root; an hour); WHAT="bulk latency": only these
	$(Q)scripts/deps.sh bench
	$(Q)$(BENCH_RUN) $(WHAT)

bench-quick: all bench-programs ## two minutes: have the ratios fallen? (root)
	$(Q)$(BENCH_RUN) --quick

.PHONY: bench-programs bench bench-quick
