# coloc - shared-memory transport under unmodified TCP programs. 'make help' lists the targets.

CC ?= cc
CFLAGS ?= -O2 -g
PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
BINDIR ?= $(PREFIX)/bin
SBINDIR ?= $(PREFIX)/sbin
SYSCONFDIR ?= /etc
MANDIR ?= $(PREFIX)/share/man
UNITDIR ?= $(PREFIX)/lib/systemd/system
TMPFILESDIR ?= $(PREFIX)/lib/tmpfiles.d
DESTDIR ?=
PKG_CONFIG ?= pkg-config
VERSION := 0.1.0

# make SAN=thread|address|undefined uses a folder of its own, so that variants never mix.
SAN ?=
O ?= build$(if $(SAN),/san-$(SAN))
# However it was said: what is written down of who depends on whom names files by it.
override O := $(patsubst $(CURDIR)/%,%,$(abspath $(O)))
SAN_FLAGS := $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer $(if $(filter undefined,$(SAN)),-fno-sanitize-recover=all))

Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-7s %s\n' $(1) $(2))

WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith \
	-Wundef -Wvla -Wformat=2 -Werror=implicit-function-declaration
ALL_CFLAGS = -std=gnu11 $(WARN) $(CFLAGS) $(SAN_FLAGS) -fvisibility=hidden -fPIC -pthread \
	-D_GNU_SOURCE -DCOLOC_VERSION='"$(VERSION)"' -DCOLOC_LIBDIR='"$(LIBDIR)"' \
	-DCOLOC_SBINDIR='"$(SBINDIR)"' -Iinclude -Ishm-transport

.DEFAULT_GOAL := all
.SUFFIXES:
.DELETE_ON_ERROR:

# Each folder lists its files; see the variables there.
include shm-transport/sources.mk preload/sources.mk residency-agent/sources.mk tests/sources.mk \
	bench/sources.mk

all: $(O)/libcoloc.so $(O)/residency-agent $(O)/colocctl $(O)/coloc-run ## build everything

# ---- objects -------------------------------------------------------------------------------------
$(O)/obj/%.o: %.c
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) $(EXTRA_CFLAGS) -MMD -MP -c $< -o $@

-include $(shell find $(O)/obj -name '*.d' 2>/dev/null)

objs = $(patsubst %.c,$(O)/obj/%.o,$(1))

$(O)/libshmt.a: $(call objs,$(SHMT_SRCS))
	$(call say,AR,$@)
	$(Q)rm -f $@ && $(AR) rcs $@ $^

# Hooks may be unwound by thread cancellation; thread-locals must not allocate.
$(call objs,$(PRELOAD_SRCS)): EXTRA_CFLAGS = -fexceptions -ftls-model=initial-exec -Ipreload

$(O)/libcoloc.so: $(call objs,$(PRELOAD_SRCS)) $(O)/libshmt.a 
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(LDFLAGS) -shared -Wl,-soname,libcoloc.so \
		$(if $(SAN),,-Wl,-z,defs) -Wl,-z,now -o $@ \
		$(filter %.o %.a,$^) -ldl

$(call objs,$(AGENT_ALL_SRCS)): EXTRA_CFLAGS = $(AGENT_CFLAGS) -Iresidency-agent

define program # name, sources, libraries
$(O)/$(1): $(call objs,$(2)) $(O)/libshmt.a
	$$(call say,LD,$$@)
	$$(Q)$$(CC) $$(ALL_CFLAGS) $$(LDFLAGS) -o $$@ $$(filter %.o %.a,$$^) $(3)
endef
$(eval $(call program,residency-agent,$(AGENT_SRCS),$$(AGENT_LIBS)))
$(eval $(call program,colocctl,$(COLOCCTL_SRCS),$$(COLOCCTL_LIBS)))
$(eval $(call program,coloc-run,$(COLOC_RUN_SRCS),))

# ---- targets -------------------------------------------------------------------------------------
-include scripts/install.mk

deps: ## what the distribution must provide
	@scripts/deps.sh --list

demo: all ## two guests on this host: iperf3 moves to shared memory and back
	@scripts/demo-run.sh

clean: ## remove build/
	$(call say,RM,build)
	$(Q)rm -rf build

dist: ## source archive
	$(Q)mkdir -p build && git archive --prefix=coloc-$(VERSION)/ -o build/coloc-$(VERSION).tar.gz HEAD
	@echo build/coloc-$(VERSION).tar.gz

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

.PHONY: all deps demo clean dist help
