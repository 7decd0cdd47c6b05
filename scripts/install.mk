# SPDX-License-Identifier: Apache-2.0
# Install and uninstall: one list of files, so that both speak of the same.

INSTALL ?= install
LDCONFIG ?= ldconfig
UDEVDIR ?= $(PREFIX)/lib/udev/rules.d
MAN_PAGES := $(sort $(wildcard docs/man/*.[1-9]))
man_dir = $(MANDIR)/man$(subst .,,$(suffix $(1)))

# What stands in the sources as the default prefix's path is written as what was chosen.
substitute = sed -e 's|/usr/local/sbin|$(SBINDIR)|g' -e 's|/usr/local/bin|$(BINDIR)|g' \
	-e 's|/usr/local/lib/libcoloc|$(LIBDIR)/libcoloc|g' -e 's|/etc/coloc|$(SYSCONFDIR)/coloc|g'

INSTALLED_FILES = $(LIBDIR)/libcoloc.so $(SBINDIR)/residency-agent $(BINDIR)/colocctl \
	$(BINDIR)/coloc-run $(UNITDIR)/residency-agent.service $(TMPFILESDIR)/coloc.conf $(UDEVDIR)/90-coloc.rules \
	$(foreach page,$(MAN_PAGES),$(call man_dir,$(page))/$(notdir $(page)))

install: all ## DESTDIR, PREFIX, LIBDIR, ... choose where
	$(call say,INSTALL,$(DESTDIR)$(PREFIX))
	$(Q)$(INSTALL) -d $(sort $(dir $(addprefix $(DESTDIR),$(INSTALLED_FILES)))) \
		$(DESTDIR)$(SYSCONFDIR)/coloc
	$(Q)$(INSTALL) -m 644 $(O)/libcoloc.so $(DESTDIR)$(LIBDIR)/libcoloc.so
	$(Q)$(INSTALL) -m 755 $(O)/residency-agent $(DESTDIR)$(SBINDIR)/residency-agent
	$(Q)$(INSTALL) -m 755 $(O)/colocctl $(O)/coloc-run $(DESTDIR)$(BINDIR)/
	$(Q)$(substitute) config/residency-agent.service \
		>$(DESTDIR)$(UNITDIR)/residency-agent.service
	$(Q)$(INSTALL) -m 644 config/tmpfiles.conf $(DESTDIR)$(TMPFILESDIR)/coloc.conf
	$(Q)$(INSTALL) -m 644 config/90-coloc.rules $(DESTDIR)$(UDEVDIR)/90-coloc.rules
	$(Q)$(foreach page,$(MAN_PAGES),$(substitute) $(page) \
		>$(DESTDIR)$(call man_dir,$(page))/$(notdir $(page)) &&) :
	$(Q)chmod 644 $(DESTDIR)$(UNITDIR)/residency-agent.service \
		$(foreach page,$(MAN_PAGES),$(DESTDIR)$(call man_dir,$(page))/$(notdir $(page)))
	$(Q)test -e $(DESTDIR)$(SYSCONFDIR)/coloc/coloc.conf || \
		$(INSTALL) -m 644 config/coloc.conf $(DESTDIR)$(SYSCONFDIR)/coloc/coloc.conf
	$(Q)$(if $(DESTDIR),,$(LDCONFIG) || echo 'ldconfig failed: LD_PRELOAD=libcoloc.so needs it')

# A configuration that somebody changed is theirs and stays.
uninstall: ## remove what install put there
	$(call say,RM,$(DESTDIR)$(PREFIX))
	$(Q)rm -f $(addprefix $(DESTDIR),$(INSTALLED_FILES))
	$(Q)if cmp -s config/coloc.conf $(DESTDIR)$(SYSCONFDIR)/coloc/coloc.conf; then \
		rm -f $(DESTDIR)$(SYSCONFDIR)/coloc/coloc.conf; fi
	$(Q)rmdir --ignore-fail-on-non-empty $(DESTDIR)$(SYSCONFDIR)/coloc 2>/dev/null || :
	$(Q)$(if $(DESTDIR),,$(LDCONFIG) || :)

.PHONY: install uninstall
