# open.c is for agents: nothing in libcoloc.so may refer to it (it calls what preload interposes).
SHMT_SRCS := $(addprefix shm-transport/,region.c directory.c segment.c pairing.c ring.c switch.c \
	open.c)
