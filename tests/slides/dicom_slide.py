"""A slide as DICOM has it: a folder with a file for each level, tiles as frames (needs pydicom)."""

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, VLWholeSlideMicroscopyImageStorage, generate_uid

TILE_PX = 128


def write_dicom(
    folder: Path, levels: list[np.ndarray], mpp: float, kind: str = "VOLUME", series: str | None = None
) -> str:
    """Writes a file for each of `levels` (H, W, 3) uint8, the first at `mpp`, uncompressed; the UID of their series."""
    folder.mkdir(parents=True, exist_ok=True)
    series, frame, specimen = series or generate_uid(), generate_uid(), generate_uid()
    for number, pixels in enumerate(levels):
        height, width = pixels.shape[:2]
        rows, columns = -(-height // TILE_PX), -(-width // TILE_PX)
        padded = np.full((rows * TILE_PX, columns * TILE_PX, 3), 255, np.uint8)
        padded[:height, :width] = pixels
        tiles = padded.reshape(rows, TILE_PX, columns, TILE_PX, 3).swapaxes(1, 2)
        one = Dataset()
        one.SOPClassUID, one.SOPInstanceUID = VLWholeSlideMicroscopyImageStorage, generate_uid()
        one.StudyInstanceUID, one.SeriesInstanceUID, one.FrameOfReferenceUID = specimen, series, frame
        one.Modality, one.PatientID, one.ContainerIdentifier = "SM", "golden", "golden"
        one.ImageType = ["DERIVED", "PRIMARY", kind, "RESAMPLED"] if number else ["ORIGINAL", "PRIMARY", kind, "NONE"]
        one.SamplesPerPixel, one.PhotometricInterpretation, one.PlanarConfiguration = 3, "RGB", 0
        one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 8, 8, 7, 0
        one.Rows = one.Columns = TILE_PX
        one.NumberOfFrames, one.NumberOfOpticalPaths, one.TotalPixelMatrixFocalPlanes = rows * columns, 1, 1
        one.TotalPixelMatrixRows, one.TotalPixelMatrixColumns = height, width
        one.DimensionOrganizationType, one.ImageOrientationSlide = "TILED_FULL", [0, -1, 0, -1, 0, 0]
        measures, shared, origin = Dataset(), Dataset(), Dataset()
        spacing_mm = mpp * levels[0].shape[1] / width / 1000
        measures.PixelSpacing, measures.SliceThickness = [spacing_mm, spacing_mm], 0.001
        shared.PixelMeasuresSequence = [measures]
        one.SharedFunctionalGroupsSequence = [shared]
        origin.XOffsetInSlideCoordinateSystem, origin.YOffsetInSlideCoordinateSystem = 0, 0
        one.TotalPixelMatrixOriginSequence = [origin]
        one.PixelData = np.ascontiguousarray(tiles).tobytes()
        one.file_meta = FileMetaDataset()
        one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one.file_meta.MediaStorageSOPClassUID, one.file_meta.MediaStorageSOPInstanceUID = (
            one.SOPClassUID,
            one.SOPInstanceUID,
        )
        one.save_as(folder / f"{one.SOPInstanceUID}.dcm", enforce_file_format=True)
    return series
