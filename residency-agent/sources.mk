# The daemon, and the two tools beside it. libev brings no .pc file.
AGENT_SRCS := $(addprefix residency-agent/,main.c conf.c conf_agent.c attach.c guests.c residency.c \
	local.c records.c diag.c procs.c packets.c grants.c offers.c reclaim.c drain.c removal.c stash.c \
	control.c answers.c log.c)
COLOCCTL_SRCS := $(sort $(wildcard residency-agent/colocctl*.c))
COLOC_RUN_SRCS := $(sort $(wildcard residency-agent/coloc-run*.c))
AGENT_ALL_SRCS := $(sort $(AGENT_SRCS) $(COLOCCTL_SRCS) $(COLOC_RUN_SRCS))

AGENT_PACKAGES := inih jansson libsystemd libmnl
AGENT_CFLAGS := $(shell $(PKG_CONFIG) --silence-errors --cflags $(AGENT_PACKAGES))
AGENT_LIBS := -lev $(shell $(PKG_CONFIG) --silence-errors --libs $(AGENT_PACKAGES))
COLOCCTL_LIBS := $(shell $(PKG_CONFIG) --silence-errors --libs jansson)
