//! The part of the output frame that the picture fills.

use gst_video::VideoInfo;
use srfilter::frame::{FrameMut, PixelFormat, Window};

/// The largest part of the output frame with the display aspect ratio of the input, in
/// the middle; the rest is borders. All of it where the two differ by less than a
/// pixel, and without `add_borders`.
pub(super) fn window(
    from: &VideoInfo,
    to: &VideoInfo,
    format: PixelFormat,
    add_borders: bool,
) -> Window {
    let (width, height) = (to.width() as usize, to.height() as usize);
    let whole = Window::whole((width, height));
    // The input's aspect ratio in pixels of the output.
    let ratio = |info: &VideoInfo| f64::from(info.par().numer()) / f64::from(info.par().denom());
    let aspect = f64::from(from.width()) / f64::from(from.height()) * ratio(from) / ratio(to);
    let (wide, high) = (height as f64 * aspect, width as f64 / aspect);
    let is_close = (wide - width as f64).abs() < 1.0 || (high - height as f64).abs() < 1.0;
    if !add_borders || is_close || !aspect.is_finite() || aspect <= 0.0 {
        return whole;
    }
    let (columns, rows) = format.alignment();
    // A length, or its largest multiple that leaves borders.
    let centered = |length: f64, all: usize, multiple: usize| {
        let length = (length.round() as usize / multiple * multiple)
            .max(multiple)
            .min(all);
        ((all - length) / 2 / multiple * multiple, length)
    };
    if wide < width as f64 {
        let (x, width) = centered(wide, width, columns);
        Window { x, width, ..whole }
    } else {
        let (y, height) = centered(high, height, rows);
        Window { y, height, ..whole }
    }
}

/// The part of a frame that the picture fills, with borders around it.
pub(super) fn with_borders<'a>(
    frame: &'a mut FrameMut<'_>,
    window: Option<Window>,
) -> srfilter::Result<FrameMut<'a>> {
    let window = window.unwrap_or(Window::whole(frame.size()));
    if window != Window::whole(frame.size()) {
        frame.fill_borders(window)?;
    }
    frame.window(window)
}

#[cfg(test)]
mod tests {
    use super::*;
    use gst_video::VideoFormat;

    fn info(width: u32, height: u32, par: (i32, i32)) -> VideoInfo {
        gst::init().unwrap();
        let builder = VideoInfo::builder(VideoFormat::I420, width, height);
        builder
            .par(gst::Fraction::new(par.0, par.1))
            .build()
            .unwrap()
    }

    #[test]
    fn the_picture_keeps_its_shape() {
        let square = (1, 1);
        for (from, to, expected) in [
            // Upright in a wide frame, wide in an upright one.
            (
                info(120, 160, square),
                info(640, 360, square),
                (184, 0, 270, 360),
            ),
            (
                info(320, 180, square),
                info(400, 400, square),
                (0, 88, 400, 224),
            ),
            // The same shape in other pixels.
            (
                info(720, 576, (16, 15)),
                info(768, 576, square),
                (0, 0, 768, 576),
            ),
            (
                info(720, 576, (16, 15)),
                info(1440, 1152, (16, 15)),
                (0, 0, 1440, 1152),
            ),
            // Less than a pixel.
            (
                info(427, 240, square),
                info(640, 360, square),
                (0, 0, 640, 360),
            ),
        ] {
            let window = window(&from, &to, PixelFormat::I420, true);
            let found = (window.x, window.y, window.width, window.height);
            assert_eq!(found, expected, "{from:?} {to:?}");
        }
        let stretched = window(
            &info(120, 160, square),
            &info(640, 360, square),
            PixelFormat::I420,
            false,
        );
        assert_eq!(stretched, Window::whole((640, 360)));
    }
}
