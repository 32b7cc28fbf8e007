# What can be made; "make help" lists it. The logic is in scripts/.

PREFIX ?= $(if $(filter 0,$(shell id -u)),/usr/local,$(HOME)/.local)
FUZZTIME ?= 10s
export FUZZTIME

.DEFAULT_GOAL := help
.PHONY: help quickstart build test test-unit crash e2e lab bench soak cover lint fuzz fmt install uninstall deb clean

help: ## List the targets
	@sed -n 's/^\([a-z0-9-]*\):[^#]*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-18s %s\n", $$1, $$2 }'

quickstart: ## From nothing to a command run in a VM; installs what is missing
	@scripts/quickstart

build: ## Build bin/banger and bin/bangerd
	@scripts/build

test: ## Everything this machine can run, lint included; installs what is missing
	@scripts/test lint unit crash e2e

test-unit: ## The tests of the packages alone, with the race detector
	@scripts/test unit

crash: ## The crash matrix: every verb, at every step, dies or fails in every way
	@scripts/test crash

e2e: ## The stories, against real VMs
	@scripts/test e2e

lab: ## The privileged tests, in a VM with nested virtualisation (not there yet)
	@echo "make lab: there is no lab yet, so nothing was tested" >&2; exit 1

bench: build ## Measure, as docs/benchmarks.md says
	@scripts/bench

soak: build ## What takes longer than make test has: hundreds of boots, a file of 5 GiB, the whole crash matrix over QEMU
	@scripts/soak

cover: build ## Unit test coverage, to coverage.out
	@scripts/cover

lint: ## Style, mistakes and the import rules
	@scripts/lint

fuzz: build ## Every fuzz target for FUZZTIME (10s)
	@scripts/fuzz

fmt: ## Format the Go code
	@gofmt -s -w $$(git ls-files --cached --others --exclude-standard '*.go')

install: build ## Install to DESTDIR and PREFIX (/usr/local for root, else ~/.local)
	@PREFIX="$(PREFIX)" DESTDIR="$(DESTDIR)" scripts/install

uninstall: ## Remove what make install put there, and nothing else
	@PREFIX="$(PREFIX)" DESTDIR="$(DESTDIR)" scripts/uninstall

deb: build ## Build bin/banger.deb
	@scripts/deb

clean: ## Remove what was built; caches and VMs stay
	rm -rf bin internal/kernel/embedded/banger-agent internal/kernel/embedded/banger-ssh coverage.out
