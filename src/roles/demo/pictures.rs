//! Pictures of the screen for the report.

use std::path::Path;

use autoreply_rig::Picture;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder as _};

/// Writes the part of a picture at x, y, width, height (cut to the picture) as a PNG.
///
/// # Errors
/// The file cannot be written.
pub fn write(picture: &Picture, part: (u32, u32, u32, u32), path: &Path) -> Result<(), image::ImageError> {
    let (left, top, width, height) = part;
    let right = left.saturating_add(width).min(u32::from(picture.width));
    let bottom = top.saturating_add(height).min(u32::from(picture.height));
    let (left, top) = (left.min(right), top.min(bottom));
    let mut rgb = Vec::with_capacity(3 * (right - left) as usize * (bottom - top) as usize);
    let row_bytes = 4 * usize::from(picture.width);
    for row in picture.rgbx.chunks_exact(row_bytes).take(bottom as usize).skip(top as usize) {
        for pixel in row[4 * left as usize..4 * right as usize].chunks_exact(4) {
            rgb.extend_from_slice(&pixel[..3]);
        }
    }
    let file = std::io::BufWriter::new(std::fs::File::create(path)?);
    let encoder = PngEncoder::new_with_quality(file, CompressionType::Default, FilterType::Adaptive);
    encoder.write_image(&rgb, right - left, bottom - top, ExtendedColorType::Rgb8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_part_is_cut_to_the_picture_and_comes_back_from_the_file() {
        let rgbx: Vec<u8> = (0..4 * 3 * 2).map(|value| value as u8).collect();
        let picture = Picture { width: 3, height: 2, rgbx };
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.png");
        write(&picture, (1, 1, 90, 90), &path).unwrap();
        let back = image::open(&path).unwrap().to_rgb8();
        assert_eq!(back.dimensions(), (2, 1));
        assert_eq!(back.into_raw(), [16, 17, 18, 20, 21, 22]);
    }
}
