internal import ChunkStore
internal import Platform
internal import TensorFormats

/// The model that an adapter was trained for: an iteration's, or that of a folder on disk.
struct BaseModel {
    /// In the order of its layout.
    let tensors: [ModelTensor]
    /// What goes with it: configuration, tokenizer.
    let files: [OutputFile]
    /// Sentences for people.
    let warnings: [String]
    /// Kept from removal until all is written.
    let view: CheckpointView

    /// An iteration.
    init(_ subject: ExportSubject) throws {
        var tensors = try ExportTensors(subject, withOptimizer: false)
        tensors.untie()
        self.tensors = tensors.files().model
        files = subject.assembly.files.compactMap { path, name in
            var file = subject.manifest.file(path).flatMap { subject.manifest.output($0) }
            file?.path = [UInt8](name.utf8)
            return file
        }
        warnings = tensors.warnings
        view = subject.view
    }

    /// A folder as `save_pretrained` writes it.
    /// - Throws: `.usage` where it holds no such model.
    init(folder: String) throws {
        let path = Path(folder)
        let view = try CheckpointView(path)
        guard let assembly = try HuggingFace().assembly(of: view), assembly.fileName == "model" else {
            throw CairnError(
                .usage, "\(folder) holds no model of Hugging Face that an adapter could be merged into",
                path: folder)
        }
        var maps: [String: TensorMap] = [:]
        var tensors: [ModelTensor] = []
        for tensor in assembly.tensors {
            // Each is whole in one file.
            let piece = tensor.pieces[0]
            if maps[piece.file] == nil { maps[piece.file] = try view.tensors(in: piece.file) }
            guard let map = maps[piece.file],
                let stored = map.tensors.first(where: { $0.name == piece.tensor })
            else {
                continue
            }
            let start = map.extents[stored.extent].offset + stored.offset
            let bytes = FileBytes(path: path.appending(piece.file), start: start, length: stored.length)
            tensors.append(
                ModelTensor(
                    name: tensor.name, dtype: tensor.dtype, shape: tensor.shape, content: .computed(bytes)))
        }
        self.tensors = tensors
        files = assembly.files.compactMap { file, name in
            guard let size = view[file]?.size else { return nil }
            let bytes = FileBytes(path: path.appending(file), start: 0, length: size)
            return OutputFile(path: [UInt8](name.utf8), parts: [.computed(bytes)])
        }
        warnings = []
        self.view = view
    }
}
