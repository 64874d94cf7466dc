internal import Platform
internal import TensorFormats

/// An export as a file that `torch.load` reads.
struct TorchExport {
    private(set) var plan = ExportPlan()
    private static let extensions = [".pt", ".pth", ".bin"]

    /// - Parameter destination: a file where its name ends as those of PyTorch, else a folder.
    init(_ subject: ExportSubject, destination: String) throws {
        plan.isFile = Self.extensions.contains { destination.hasSuffix($0) }
        let tensors = try ExportTensors(subject, withOptimizer: subject.options.all)
        plan.warnings = tensors.warnings
        var contents = TorchBytes(tensors)
        var value = try contents.dictionary(tensors.model)
        if subject.options.all {
            var parts: [(key: TorchValue, value: TorchValue)] = [(.text("model"), value)]
            if !tensors.optimizer.isEmpty {
                parts.append((.text("optimizer"), try contents.dictionary(tensors.optimizer)))
            }
            value = .dictionary(parts)
        }
        let name = plan.isFile ? destination : "model.pt"
        do throws(TensorFileError) {
            let file = try TorchFileWriter.file(
                of: value, tensors: contents.tensors, root: TorchFileWriter.root(forFile: name))
            plan.written = [contents.output(name, file)]
        } catch {
            throw CairnError(error)
        }
    }
}

/// An export that `torch.distributed.checkpoint` loads on any number of ranks.
struct DCPExport {
    private(set) var plan = ExportPlan()

    init(_ subject: ExportSubject) throws {
        let options = subject.options
        let tensors = try ExportTensors(subject, withOptimizer: options.all)
        plan.warnings = tensors.warnings
        var contents = TorchBytes(tensors)
        var items: [DCPWriter.Item] = []
        for (key, tensors) in [("model", tensors.model), ("optimizer", tensors.optimizer)] {
            for tensor in tensors {
                let content = try contents.add(tensor)
                let path: [DCPWriter.Key] =
                    options.all ? [.name(key), .name(tensor.name)] : [.name(tensor.name)]
                items.append(
                    .init(
                        path: path, dtype: try tensor.dtype(in: "checkpoints of PyTorch"),
                        shape: tensor.shape,
                        content: content))
            }
        }
        do throws(TensorFileError) {
            let writer = try DCPWriter(items, maximumFileSize: options.maxShardSize ?? .max)
            plan.written = writer.files.map { contents.output($0.name, $0.parts) }
            plan.written.append(
                OutputFile(
                    path: [UInt8](DCPWriter.metadataFileName.utf8), parts: [.literal(writer.metadata)]))
        } catch {
            throw CairnError(error)
        }
    }
}

/// The tensors of PyTorch's files, of which those in the same memory stay so.
private struct TorchBytes {
    private struct Memory: Hashable {
        var dtype: String
        var bytes: Elements
        /// Of what is transposed: its axes are no longer in the bytes.
        var shape: [UInt64]?
    }

    private(set) var tensors: [TorchFileWriter.Tensor] = []
    private var contents: [OutputFile.Part] = []
    private var known: [Memory: Int] = [:]
    private let all: ExportTensors

    init(_ all: ExportTensors) { self.all = all }

    /// Takes a tensor in.
    /// - Returns: the number of its bytes.
    mutating func add(_ tensor: GatheredTensor) throws -> Int {
        let memory = Memory(
            dtype: tensor.dtype, bytes: tensor.bytes, shape: tensor.isTransposed ? tensor.shape : nil)
        let content = known[memory] ?? contents.count
        if content == contents.count {
            contents.append(all.content(of: tensor))
            // Nothing in no memory is the same as nothing elsewhere.
            if tensor.count > 0 { known[memory] = content }
        }
        tensors.append(
            .init(
                name: tensor.name, dtype: try tensor.dtype(in: "files of PyTorch"), shape: tensor.shape,
                content: content))
        return content
    }

    /// Tensors by their names.
    mutating func dictionary(_ tensors: [GatheredTensor]) throws -> TorchValue {
        .dictionary(
            try tensors.map { tensor in
                _ = try add(tensor)
                return (.text(tensor.name), .tensor(self.tensors.count - 1))
            })
    }

    /// A file with the tensors' bytes in their places.
    func output(_ name: String, _ file: FileParts) -> OutputFile {
        var places: [Int: Int] = [:]
        var pending: [(part: Int, content: Int)] = []
        var parts: [OutputFile.Part] = []
        for part in file.parts {
            switch part {
            case .literal(let bytes): parts.append(.literal(bytes))
            case .content(let content, _):
                places[content] = parts.count
                parts.append(contents[content])
            case .checksum(let content):
                pending.append((parts.count, content))
                parts.append(.literal([]))
            }
        }
        for (part, content) in pending { parts[part] = .checksum(of: places[content]!) }
        return OutputFile(path: [UInt8](name.utf8), parts: parts)
    }
}
