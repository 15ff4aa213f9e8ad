//! The upscaler of frames.

use super::backend::{Backend, DevicePlane};
use super::budget;
use super::cpu::Mixer;
use super::open::open;
use super::options::UpscaleOptions;
use super::reuse::{FrameReuse, Request, Reuse, Reused};
use super::spec::{FrameSpec, UpscaleSpec};
use super::view::{View, ViewLayout};
use super::{ComputeDevice, DeviceChoice};
use crate::background::RunningFrame;
use crate::chain::{Interrupt, Precision};
use crate::frame::{FrameMut, FrameRef, Image};
use crate::threads::pool;
use crate::weights::Model;
use crate::{Error, Result, Scale, TensorError};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Upscales frames of one format and size.
///
/// With [`DeviceChoice::Auto`] the CPU takes over if the GPU fails, at the start
/// or at any frame: [`Upscaler::fallback_reason`].
pub struct Upscaler {
    model: Arc<Model>,
    spec: UpscaleSpec,
    options: UpscaleOptions,
    device: ComputeDevice,
    fallback_reason: Option<String>,
    scales: Vec<Scale>,
    backend: Box<dyn Backend>,
    interrupt: Interrupt,
    view: View,
    /// Built for the first frame of a view that needs it.
    mixer: Option<Mixer>,
    reuse: FrameReuse,
}

impl std::fmt::Debug for Upscaler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upscaler")
            .field("model", &self.model)
            .field("spec", &self.spec)
            .field("device", &self.device)
            .field("scales", &self.scales)
            .finish_non_exhaustive()
    }
}

// Upscalers are `Send`.
const _: fn() = || {
    fn is_send<T: Send>() {}
    is_send::<Upscaler>();
};

impl Upscaler {
    /// Prepares `model` for `spec`.
    ///
    /// # Errors
    ///
    /// As [`Upscaler::check`], and a device that this build cannot use.
    pub fn new(model: Arc<Model>, spec: UpscaleSpec, options: &UpscaleOptions) -> Result<Self> {
        let device = options.device.resolve()?;
        match Self::on(&device, &model, &spec, options) {
            Err(error) if !device.is_cpu() && options.device == DeviceChoice::Auto => {
                Self::without_gpu(model, spec, options, &error)
            }
            Err(error @ Error::Compute(_)) if !device.is_cpu() => Err(gpu_failed(&error)),
            result => result,
        }
    }

    fn on(
        device: &ComputeDevice,
        model: &Arc<Model>,
        spec: &UpscaleSpec,
        options: &UpscaleOptions,
    ) -> Result<Self> {
        Ok(Self {
            backend: open(device, model, spec, options)?,
            scales: model.cascade(spec.scale),
            model: Arc::clone(model),
            spec: *spec,
            options: *options,
            device: device.clone(),
            fallback_reason: None,
            interrupt: Interrupt::default(),
            view: View::default(),
            mixer: None,
            reuse: FrameReuse::default(),
        })
    }

    /// Another upscaler like this one on the same device, with the same weights in memory,
    /// to compute `copies` frames at a time with as many upscalers.
    ///
    /// # Errors
    ///
    /// Too little memory for `copies` frames; call [`Upscaler::warm_up`] before, so that the
    /// memory of those that exist counts. A device that fails.
    pub fn try_clone(&self, copies: usize) -> Result<Self> {
        budget::check_copy(&self.device, &self.model, &self.spec, &self.options, copies)?;
        let clone = Self::on(&self.device, &self.model, &self.spec, &self.options)?;
        Ok(Self {
            fallback_reason: self.fallback_reason.clone(),
            ..clone
        })
    }

    /// Hands the upscaler to a function that runs on the CPU's threads, and returns at
    /// once. Functions of several upscalers overlap where threads are idle, and tend to
    /// end in the order in which they were handed over.
    ///
    /// # Errors
    ///
    /// Threads that cannot be started.
    pub fn spawn(self, work: impl FnOnce(Self) + Send + 'static) -> Result<()> {
        pool(self.options.threads)?.spawn_fifo(move || {
            // Nobody waits for a panic here; it must not end the process.
            let _ = catch_unwind(AssertUnwindSafe(|| work(self)));
        });
        Ok(())
    }

    /// The same upscaler on the CPU, after the GPU failed.
    fn without_gpu(
        model: Arc<Model>,
        spec: UpscaleSpec,
        options: &UpscaleOptions,
        error: &Error,
    ) -> Result<Self> {
        let reason = format!("the GPU failed: {error}");
        let device = ComputeDevice::cpu(Some(reason.clone()));
        Ok(Self {
            fallback_reason: Some(reason),
            ..Self::on(&device, &model, &spec, options)?
        })
    }

    /// Checks that `model` can run `spec` on this machine. Returns the size
    /// after each of its networks.
    ///
    /// # Errors
    ///
    /// A frame that is too large for the engine or for the free memory (the
    /// CPU's, if a GPU has too little and the CPU may take over), tiles that
    /// overlap by more than their size, a device that cannot be used.
    pub fn check(
        model: &Model,
        spec: &UpscaleSpec,
        options: &UpscaleOptions,
    ) -> Result<Vec<(usize, usize)>> {
        let device = options.device.resolve()?;
        let networks = match budget::check(&device, model, spec, options) {
            Err(_) if !device.is_cpu() && options.device == DeviceChoice::Auto => {
                budget::check(&ComputeDevice::cpu(None), model, spec, options)
            }
            result => result,
        }?;
        Ok(networks.iter().map(|network| network.output).collect())
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }

    /// The formats and sizes of the frames.
    pub fn spec(&self) -> &UpscaleSpec {
        &self.spec
    }

    /// The device that computes.
    pub fn device(&self) -> &ComputeDevice {
        &self.device
    }

    /// The networks' precision: `f32` or `int8` on the CPU, and on a GPU `f32` or `tf32`
    /// if a network is not a chain of convolutions.
    pub fn precision(&self) -> Precision {
        self.backend.precision()
    }

    /// Why the CPU replaced the GPU of this upscaler, if it did.
    pub fn fallback_reason(&self) -> Option<&str> {
        self.fallback_reason.as_deref()
    }

    /// The native scales of the networks in the cascade; empty if frames are
    /// only resampled.
    pub fn native_scales(&self) -> &[Scale] {
        &self.scales
    }

    /// Whether the networks' output is resampled to the output size.
    pub fn resamples(&self) -> bool {
        let reached = self
            .scales
            .iter()
            .try_fold(Scale::ONE, |all, &scale| all.checked_mul(scale));
        let (width, height) = self.spec.input.size;
        reached.is_none_or(|all| (all.apply(width), all.apply(height)) != self.spec.output)
    }

    /// Makes frames end with [`Error::Interrupted`] when another thread requests
    /// it: after a tile or a few rows on the CPU. A network that runs on whole
    /// frames (DRCT without tiles) is not interrupted, and neither is a GPU, whose
    /// frames take milliseconds.
    pub fn set_interrupt(&mut self, interrupt: &Interrupt) {
        if !self.interrupt.is(interrupt) {
            self.interrupt = interrupt.clone();
            self.backend.set_interrupt(interrupt);
        }
    }

    /// Touches the memory that frames are computed in, on the calling thread: systems
    /// provide it on first use, which would make the first frame slow. Effective on the
    /// CPU, for networks that are chains of convolutions, and for resampling.
    pub fn warm_up(&mut self) {
        self.backend.warm_up();
    }

    /// The number of tiles of a frame; 0 if a GPU computes whole frames.
    pub fn tiles(&self) -> usize {
        self.backend.tiles()
    }

    /// Blends frames with bicubic ones, or compares them, from the next frame on.
    /// Nothing is prepared anew.
    pub fn set_view(&mut self, view: View) {
        self.view = view;
    }

    /// Upscales a frame. Every sample of `output` is written.
    ///
    /// # Errors
    ///
    /// Frames whose format, size or colorimetry differ from the upscaler's; a
    /// failure of a GPU requested by number.
    pub fn process(&mut self, input: &FrameRef<'_>, output: &mut FrameMut<'_>) -> Result<()> {
        self.expect_both(input, output)?;
        let _running = RunningFrame::begin();
        let layout = self.layout();
        // Without networks, the backend resamples.
        if layout.uses_network() {
            self.process_plain(input, output)?;
        }
        self.apply(&layout, input, output)
    }

    /// [`Upscaler::process`] without a view.
    fn process_plain(&mut self, input: &FrameRef<'_>, output: &mut FrameMut<'_>) -> Result<()> {
        // Out of the upscaler, which another one replaces if the GPU fails.
        let mut reuse = std::mem::take(&mut self.reuse);
        let how = (self.options.threads, self.backend.updates_parts());
        let result = reuse.process(how, (input, output), |output, request| {
            self.run_with_retry(|backend| match request {
                Request::Plain => backend.run(input, output).map(|()| 1.0),
                Request::Retained(changes) => backend.update(input, output, changes),
            })
        });
        self.reuse = reuse;
        result
    }

    fn layout(&self) -> ViewLayout {
        self.view.layout(&self.spec, !self.scales.is_empty())
    }

    /// Turns the upscaled picture in `output`, if it has a share in the view, into the
    /// view.
    fn apply(
        &mut self,
        layout: &ViewLayout,
        input: &FrameRef<'_>,
        output: &mut FrameMut<'_>,
    ) -> Result<()> {
        if layout.is_plain() {
            return Ok(());
        }
        let mixer = match self.mixer.take() {
            Some(mixer) => mixer,
            None => Mixer::new(&self.spec, self.model.channels(), &self.options)?,
        };
        let mixer = self.mixer.insert(mixer);
        if !layout.uses_network() {
            mixer.resample(input, output)?;
        }
        Ok(mixer.mix(input, output, layout)?)
    }

    /// Whether frames take from the last output what depends on equal input alone:
    /// tiles of networks that run fused on the CPU, and of resampling; whole frames
    /// otherwise, and in GPU memory. The output is the same, bit for bit. Default:
    /// [`Reuse::Off`].
    pub fn set_reuse(&mut self, reuse: Reuse) {
        self.reuse.set_mode(reuse);
    }

    /// What was reused for the last frame.
    pub fn reused(&self) -> Reused {
        self.reuse.last()
    }

    /// Drops the last frame: nothing of it is reused for the next one.
    pub fn forget(&mut self) {
        self.reuse.forget();
    }

    /// As [`Upscaler::process`] for whole images.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn upscale(&mut self, input: &Image, output: &mut Image) -> Result<()> {
        self.process(&input.frame()?, &mut output.frame_mut()?)
    }

    /// As [`Upscaler::process`] for the networks' planes instead of a frame:
    /// luma, or R, G and B, dense rows of values 0 to 255, not necessarily
    /// integers. The output is clamped to that range and not rounded, and the view
    /// ([`Upscaler::set_view`]) does not apply. Without networks, any number of planes
    /// is resampled.
    ///
    /// # Errors
    ///
    /// A wrong number of planes, or planes of the wrong size; as
    /// [`Upscaler::process`].
    pub fn process_planes(&mut self, planes: &[Vec<f32>]) -> Result<Vec<Vec<f32>>> {
        let (width, height) = self.spec.input.size;
        let count = match self.scales.is_empty() {
            true => planes.len().max(1),
            false => self.model.channels().count(),
        };
        if planes.len() != count || planes.iter().any(|p| p.len() != width * height) {
            let found: Vec<_> = planes.iter().map(Vec::len).collect();
            return Err(Error::Frame(format!(
                "expected {count} planes of {width}x{height} samples, found planes of {found:?}"
            )));
        }
        self.run_with_retry(|backend| backend.run_planes(planes))
    }

    /// Whether frames can be submitted before others are received.
    pub fn supports_pipelining(&self) -> bool {
        self.backend.supports_pipelining()
    }

    /// Starts the computation of a frame, to be waited for by
    /// [`Upscaler::receive`]: upload, computation and download of successive
    /// frames then overlap. At most two frames may be in flight. Returns whether
    /// it was started, which takes a GPU whose kernels support the networks and
    /// enough memory. Otherwise call [`Upscaler::process`] after the frames in
    /// flight are received.
    ///
    /// # Errors
    ///
    /// As [`Upscaler::process`], and a third frame in flight.
    pub fn submit(&mut self, input: &FrameRef<'_>) -> Result<bool> {
        self.expect_input(input)?;
        match self.backend.submit(input).map_err(Error::from) {
            Err(error @ Error::Compute(_)) => {
                self.fall_back(&error)?;
                Ok(false)
            }
            result => result,
        }
    }

    /// Waits for the oldest frame in flight, `input`. If the GPU fails and the
    /// CPU may take over, the CPU computes it.
    ///
    /// # Errors
    ///
    /// As [`Upscaler::process`].
    pub fn receive(&mut self, input: &FrameRef<'_>, output: &mut FrameMut<'_>) -> Result<()> {
        self.expect_both(input, output)?;
        if self.backend.in_flight() > 0 {
            match self.backend.receive(output).map_err(Error::from) {
                Err(error @ Error::Compute(_)) => self.fall_back(&error)?,
                Err(error) => return Err(error),
                Ok(()) => return self.apply(&self.layout(), input, output),
            }
        }
        self.process(input, output)
    }

    /// Drops the frames in flight.
    pub fn cancel(&mut self) {
        self.backend.cancel();
    }

    /// As [`Upscaler::process`] for frames in GPU memory, plane by plane,
    /// without a copy to the host; complete on return. Returns `false` without
    /// effect on the CPU, for networks that are not chains of convolutions, and if the view
    /// ([`Upscaler::set_view`]) is not the network's output alone: use [`Upscaler::process`] then.
    ///
    /// # Errors
    ///
    /// A wrong number of planes; a failure of a GPU requested by number.
    ///
    /// # Safety
    ///
    /// The planes have the rows of the spec's frames, in memory of the primary
    /// context of this upscaler's GPU (`ComputeDevice::context`), and nothing
    /// else writes to them.
    pub unsafe fn process_device_frame(
        &mut self,
        input: &[DevicePlane],
        output: &[DevicePlane],
    ) -> Result<bool> {
        if !self.layout().is_plain() {
            return Ok(false);
        }
        let processed = self.reuse.process_on_device(|compares| {
            // SAFETY: the callee has the same contract.
            let processed = unsafe { self.backend.run_device_frame(input, output, compares) };
            processed.map_err(Error::from)
        });
        match processed {
            Err(error @ Error::Compute(_)) => {
                self.fall_back(&error)?;
                Ok(false)
            }
            result => result,
        }
    }

    /// Runs on the backend. If a GPU fails, tries again: with less memory if it
    /// was out of memory, else on the CPU.
    fn run_with_retry<T>(
        &mut self,
        mut work: impl FnMut(&mut dyn Backend) -> Result<T, TensorError>,
    ) -> Result<T> {
        loop {
            match work(self.backend.as_mut()).map_err(Error::from) {
                Err(Error::Compute(error)) if !self.device.is_cpu() => {
                    if !(error.is_out_of_memory() && self.backend.shrink()) {
                        self.fall_back(&Error::Compute(error))?;
                    }
                }
                result => return result,
            }
        }
    }

    /// Falls back to the CPU, if allowed.
    fn fall_back(&mut self, error: &Error) -> Result<()> {
        if self.options.device != DeviceChoice::Auto {
            return Err(gpu_failed(error));
        }
        let (interrupt, view) = (self.interrupt.clone(), self.view);
        let replacement =
            Self::without_gpu(Arc::clone(&self.model), self.spec, &self.options, error)?;
        let reuse = std::mem::take(&mut self.reuse);
        *self = Self {
            reuse,
            ..replacement
        };
        self.forget();
        self.set_interrupt(&interrupt);
        self.set_view(view);
        Ok(())
    }

    fn expect_input(&self, input: &FrameRef<'_>) -> Result<()> {
        let found = FrameSpec {
            format: input.format(),
            size: input.size(),
            color: input.color(),
        };
        self.expect(found, self.spec.input.size, "input")
    }

    fn expect_both(&self, input: &FrameRef<'_>, output: &FrameMut<'_>) -> Result<()> {
        self.expect_input(input)?;
        let found = FrameSpec {
            format: output.format(),
            size: output.size(),
            color: output.color(),
        };
        self.expect(found, self.spec.output, "output")
    }

    fn expect(&self, found: FrameSpec, size: (usize, usize), which: &str) -> Result<()> {
        let expected = FrameSpec {
            size,
            ..self.spec.input
        };
        if found == expected {
            return Ok(());
        }
        Err(Error::Frame(format!(
            "the {which} frame is {found}, expected {expected}"
        )))
    }
}

fn gpu_failed(error: &Error) -> Error {
    Error::Setting(format!(
        "the GPU failed: {error}; or use device=auto or device=cpu"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Color, MAX_VALUE, PixelFormat, to_u8};
    use crate::models::BICUBIC;

    #[test]
    fn planes_are_the_unrounded_frame() {
        let spec = FrameSpec {
            format: PixelFormat::Gray8,
            size: (7, 5),
            color: Color::default(),
        };
        let model = Model::builtin(BICUBIC).unwrap();
        let upscale = UpscaleSpec::scaled(spec, Scale::whole(2));
        let mut upscaler = Upscaler::new(model, upscale, &UpscaleOptions::default()).unwrap();
        let samples: Vec<u8> = (0..35).map(|i| if i % 3 == 0 { 255 } else { i }).collect();
        let frame = FrameRef::new(spec.format, (7, 5), spec.color, &[(&samples, 7)]).unwrap();
        let mut upscaled = [0; 14 * 10];
        let planes = [(upscaled.as_mut_slice(), 14)];
        let mut output = FrameMut::new(spec.format, (14, 10), spec.color, planes).unwrap();
        upscaler.process(&frame, &mut output).unwrap();
        let plane: Vec<f32> = samples.iter().map(|&v| f32::from(v)).collect();
        let planes = upscaler.process_planes(&[plane]).unwrap();
        let in_range = |v: &f32| (0.0..=MAX_VALUE).contains(v);
        assert!(planes[0].iter().all(in_range) && planes[0].iter().any(|v| v.fract() != 0.0));
        let rounded: Vec<u8> = planes[0].iter().map(|&v| to_u8(v)).collect();
        assert_eq!(rounded, upscaled);
        assert!(upscaler.process_planes(&[vec![0.0; 34]]).is_err());
    }
}
