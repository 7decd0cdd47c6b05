PRELOAD_SRCS := $(sort $(wildcard preload/*.c))
