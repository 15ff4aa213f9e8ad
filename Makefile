# make demo   sets up, builds, and enlarges a clip that the project draws
# make test   sets up and runs all tests
# make build  sets up and builds plugin, sr and train into target/release

.PHONY: demo test build

demo:
	@scripts/demo.sh

test:
	@scripts/test.sh

build:
	@scripts/setup.sh
	PATH="$$PATH:$$HOME/.cargo/bin" cargo build --release --workspace
