SHMT_SRCS := $(addprefix shm-transport/,region.c directory.c segment.c pairing.c ring.c switch.c)
