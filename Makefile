# Everything is a script; this names them.

.PHONY: run test test-nics check bench soak mutants clean

# A demonstration: the appliance on one end of a veth pair, curl on the other. Until Ctrl-C.
run:
	@scripts/demo

# Every check and every test.
test:
	@scripts/test

# The appliance on every emulated network card, in every way.
test-nics:
	@scripts/test-nics

# What needs no root, no namespaces and no packages beyond the build's.
check:
	@scripts/test --checks-only

# The table of figures, and target/bench/summary.json.
bench:
	@scripts/bench

# What takes hours: every combination of the KTLS matrix, and a large object for many clients.
soak:
	@scripts/soak-ktls
	@scripts/soak-cache

# Mutation tests: changes one line of code at a time; the named test must fail.
mutants:
	@scripts/mutants/run.py

clean:
	cargo clean
