# What libcoloc.so may contain: nothing here calls by name what the preload interposes.
SHMT_SRCS := $(addprefix shm-transport/,region.c directory.c segment.c pairing.c ring.c switch.c)

# For agents; in the archive, from which libcoloc.so does not take it.
$(O)/libshmt.a: $(O)/obj/shm-transport/open.o
