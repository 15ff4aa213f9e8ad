//! The compiled part of the Python module `srfilter`: super-resolution of numpy arrays.
//! `srfilter/__init__.py` is what its users see.

mod errors;
mod plugin;
mod sample;

use errors::{to_python, value_error};
use numpy::{IxDyn, PyArrayDyn, PyArrayMethods, PyUntypedArrayMethods};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use sample::{Frames, Sample};
use srfilter::engine::Interrupt;
use srfilter::models::CodingDamage;
use srfilter::{DeviceChoice, FrameSpec, Precision, Scale, Scales, UpscaleOptions, UpscaleSpec};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

/// How often Python's signals (Ctrl-C) are looked at.
const SIGNALS_EVERY: Duration = Duration::from_millis(50);

#[pyclass(frozen)]
struct Model(Arc<srfilter::Model>);

#[pymethods]
impl Model {
    #[getter]
    fn name(&self) -> &str {
        self.0.name()
    }

    #[getter]
    fn origin(&self) -> &str {
        self.0.origin()
    }

    #[getter]
    fn channels(&self) -> String {
        self.0.channels().to_string()
    }

    /// Numerators and denominators; `None`: any.
    #[getter]
    fn scales(&self) -> Option<Vec<(u32, u32)>> {
        match self.0.scales() {
            Scales::Any => None,
            Scales::List(list) => Some(list.iter().map(|s| (s.num(), s.den())).collect()),
        }
    }
}

#[pyclass(frozen)]
struct Upscaler {
    model: Arc<srfilter::Model>,
    scale: Scale,
    size: Option<(usize, usize)>,
    options: UpscaleOptions,
    /// The one of the last images, for the next ones.
    idle: Mutex<Option<Idle>>,
}

/// An upscaler and its frames between two images.
struct Idle {
    upscaler: srfilter::Upscaler,
    frames: Frames,
}

#[pymethods]
impl Upscaler {
    #[new]
    #[pyo3(signature = (
        model, scale, *, size, device, precision, threads, tile_size, memory_limit, tile_overlap,
        damage
    ))]
    #[expect(clippy::too_many_arguments, reason = "keywords of Python")]
    fn new(
        model: &Model,
        scale: &str,
        size: Option<(usize, usize)>,
        device: &str,
        precision: &str,
        threads: usize,
        tile_size: usize,
        memory_limit: u64,
        tile_overlap: usize,
        damage: Option<f64>,
    ) -> PyResult<Self> {
        let device: DeviceChoice = device.parse().map_err(to_python)?;
        // Now, not at the first image.
        device.resolve().map_err(to_python)?;
        let precision: Precision = precision.parse().map_err(to_python)?;
        let scale: Scale = scale.parse().map_err(to_python)?;
        let mut model = Arc::clone(&model.0);
        if let Some(damage) = damage {
            let damage = CodingDamage::new(damage).map_err(to_python)?;
            if !model.adapts_to_damage(scale) {
                let (name, origin) = (model.name(), model.origin());
                return Err(value_error(format!(
                    "{name} ({origin}) has no weights for encoded video at scale {scale}: \
                     leave damage out"
                )));
            }
            model = model.for_damage(damage).map_err(to_python)?;
        }
        Ok(Self {
            model,
            scale,
            size,
            options: UpscaleOptions::default()
                .with_device(device)
                .with_precision(precision)
                .with_threads(threads)
                .with_tile_size(tile_size)
                .with_memory_limit(memory_limit)
                .with_tile_overlap(tile_overlap),
            idle: Mutex::default(),
        })
    }

    #[getter]
    fn scale(&self) -> (u32, u32) {
        (self.scale.num(), self.scale.den())
    }

    fn upscale<'py>(&self, image: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.dispatch(image, 0)
    }

    fn upscale_frames<'py>(&self, images: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.dispatch(images, 1)
    }
}

impl Upscaler {
    /// Upscales an array of any supported type, which has `leading` dimensions before the rows.
    fn dispatch<'py>(
        &self,
        array: &Bound<'py, PyAny>,
        leading: usize,
    ) -> PyResult<Bound<'py, PyAny>> {
        if let Ok(array) = array.cast::<PyArrayDyn<u8>>() {
            return self.typed(array, leading);
        }
        if let Ok(array) = array.cast::<PyArrayDyn<u16>>() {
            return self.typed(array, leading);
        }
        if let Ok(array) = array.cast::<PyArrayDyn<f32>>() {
            return self.typed(array, leading);
        }
        let found = match array.getattr("dtype") {
            Ok(dtype) => dtype.str()?.to_string(),
            Err(_) => array.get_type().fully_qualified_name()?.to_string(),
        };
        Err(PyTypeError::new_err(format!(
            "expected a numpy array of uint8, uint16 or float32, found {found}"
        )))
    }

    fn typed<'py, T: Sample>(
        &self,
        array: &Bound<'py, PyArrayDyn<T>>,
        leading: usize,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (py, shape) = (array.py(), array.shape().to_vec());
        let (count, width, height, channels) = layout(&shape, leading)?;
        let input = FrameSpec::new(T::format(channels), width, height);
        let mut spec = UpscaleSpec::scaled(input, self.scale);
        if let Some((width, height)) = self.size {
            spec = spec.with_output(width, height);
        }
        let mut larger = shape;
        (larger[leading], larger[leading + 1]) = (spec.output.1, spec.output.0);
        // Before memory is taken for the result.
        srfilter::Upscaler::check(&self.model, &spec, &self.options).map_err(to_python)?;
        let result = PyArrayDyn::<T>::zeros(py, IxDyn(&larger), false);
        let contiguous = py.import("numpy")?.getattr("ascontiguousarray")?;
        let dense = contiguous.call1((array,))?;
        let dense = dense
            .cast::<PyArrayDyn<T>>()?
            .try_readonly()
            .map_err(value_error)?;
        let from = dense.as_slice().map_err(value_error)?;
        let mut written = result.try_readwrite().map_err(value_error)?;
        let to = written.as_slice_mut().map_err(value_error)?;
        let interrupt = Interrupt::default();
        interruptible(py, &interrupt, || {
            let mut idle = self.idle(&spec)?;
            let Idle { upscaler, frames } = &mut idle;
            upscaler.set_interrupt(&interrupt);
            let sizes = (from.len() / count.max(1), to.len() / count.max(1));
            let pairs = from
                .chunks_exact(sizes.0.max(1))
                .zip(to.chunks_exact_mut(sizes.1.max(1)));
            for (from, to) in pairs {
                T::upscale(upscaler, frames, channels, from, to)?;
            }
            *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = Some(idle);
            Ok(())
        })?;
        drop(written);
        Ok(result.into_any())
    }

    /// The upscaler of the last images if it fits these, else a new one.
    fn idle(&self, spec: &UpscaleSpec) -> srfilter::Result<Idle> {
        let idle = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        match idle.filter(|idle| idle.upscaler.spec() == spec) {
            Some(idle) => Ok(idle),
            None => Ok(Idle {
                upscaler: srfilter::Upscaler::new(Arc::clone(&self.model), *spec, &self.options)?,
                frames: Frames::default(),
            }),
        }
    }
}

/// Frames, width, height and channels of an array of that shape, which has `leading` dimensions
/// before the rows.
fn layout(shape: &[usize], leading: usize) -> PyResult<(usize, usize, usize, usize)> {
    let (before, image) = shape.split_at(leading.min(shape.len()));
    match *image {
        [height, width] => Ok((before.iter().product(), width, height, 1)),
        [height, width, channels @ (1 | 3 | 4)] => {
            Ok((before.iter().product(), width, height, channels))
        }
        _ => {
            let expected = match leading {
                0 => "(height, width) or (height, width, channels)",
                _ => "(frames, height, width) or (frames, height, width, channels)",
            };
            Err(value_error(format!(
                "expected an array of shape {expected} with 1, 3 or 4 channels, found {shape:?}"
            )))
        }
    }
}

/// Runs `work` on another thread without Python's lock; a signal handler of Python that raises
/// (Ctrl-C) interrupts it.
fn interruptible<R: Send>(
    py: Python<'_>,
    interrupt: &Interrupt,
    work: impl FnOnce() -> srfilter::Result<R> + Send,
) -> PyResult<R> {
    py.detach(|| {
        std::thread::scope(|scope| {
            let (done, wait) = mpsc::channel();
            scope.spawn(move || {
                // Fails if nobody waits any more.
                let _ = done.send(work());
            });
            loop {
                match wait.recv_timeout(SIGNALS_EVERY) {
                    Ok(result) => return result.map_err(to_python),
                    Err(mpsc::RecvTimeoutError::Timeout) => {
                        if let Err(raised) = Python::attach(|py| py.check_signals()) {
                            interrupt.request();
                            return Err(raised);
                        }
                    }
                    Err(mpsc::RecvTimeoutError::Disconnected) => {
                        let error = srfilter::Error::Internal("a computation panicked".to_owned());
                        return Err(to_python(error));
                    }
                }
            }
        })
    })
}

/// What `srfilter/__init__.py` builds on.
#[pymodule]
mod _native {
    #[pymodule_export]
    use super::{Model, Upscaler};

    use super::{PathBuf, PyModule, PyResult, plugin, to_python};
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }

    #[pyfunction]
    fn builtin(name: &str) -> PyResult<Model> {
        srfilter::Model::builtin(name).map(Model).map_err(to_python)
    }

    #[pyfunction]
    fn open(path: PathBuf) -> PyResult<Model> {
        srfilter::Model::open(path).map(Model).map_err(to_python)
    }

    /// Name, summary, whether it runs without a weights file.
    #[pyfunction]
    fn models() -> Vec<(&'static str, &'static str, bool)> {
        let row = |m: &srfilter::ModelInfo| {
            let built_in = !m.built_in.is_empty() || (m.architecture)().is_none();
            (m.name, m.summary, built_in)
        };
        srfilter::MODELS.iter().map(row).collect()
    }

    #[pyfunction]
    fn plugin_path() -> PyResult<String> {
        plugin::find()
    }
}
