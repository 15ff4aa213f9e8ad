# make demo   sets up, builds, and enlarges a clip that the project draws
# make test   sets up and runs all tests
# make build  sets up and builds plugin, sr and train into target/release
# make gpu-bundle  builds target/gpu-bundle.tar.xz, for scripts/gpu-check

.PHONY: demo test build gpu-bundle

demo:
	@scripts/demo.sh

test:
	@scripts/test.sh

build:
	@scripts/setup.sh
	@scripts/build.sh

gpu-bundle:
	@scripts/gpu-bundle.sh
