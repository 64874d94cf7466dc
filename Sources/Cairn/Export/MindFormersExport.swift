internal import Platform
internal import TensorFormats

/// An export as MindSpore Transformers 2.0 loads and reshards it: `iteration_00000500/`, and the pointer to it.
struct MindFormersExport {
    private(set) var plan = ExportPlan()

    init(_ subject: ExportSubject, mesh: ExportMesh) throws {
        let options = subject.options
        let slices = try MindSporeSlices(subject)
        let progress = try MindSporeProgress(subject)
        let digits = String(subject.info.step)
        let folder = "iteration_" + String(repeating: "0", count: max(0, 8 - digits.utf8.count)) + digits
        plan.warnings = slices.tensors.warnings
        do {
            let spread = try MindFormersPlan(
                try slices.planned(mesh), rankCount: mesh.rankCount,
                prefix: try options.prefix.map(MindSporeSlices.checkedPrefix),
                replicas: options.removesRedundancy ? .balanced : .kept)
            for file in spread.files {
                plan.written.append(
                    OutputFile(
                        path: [UInt8]("\(folder)/\(file.name.text)".utf8),
                        parts: try [.literal(file.header)]
                            + file.pieces.map { try slices.bytes(of: $0) }))
            }
            // The library writes none for a single rank.
            if mesh.rankCount > 1 {
                add("\(folder)/\(MindFormersMetadata.fileName)", spread.metadata.serialized())
            }
        } catch let error as TensorFileError {
            throw CairnError(error)
        }
        add("\(folder)/\(MindFormersCommon.fileName)", progress.common.serialized())
        add("latest_checkpointed_iteration.txt", Array(digits.utf8))
    }

    private mutating func add(_ path: String, _ bytes: [UInt8]) {
        plan.written.append(OutputFile(path: [UInt8](path.utf8), parts: [.literal(bytes)]))
    }
}

/// The tensors of an export to MindSpore, and their slices.
struct MindSporeSlices {
    let tensors: ExportTensors
    private let all: [GatheredTensor]

    init(_ subject: ExportSubject) throws {
        tensors = try ExportTensors(subject, withOptimizer: !subject.options.withoutOptimizer)
        all = tensors.model + tensors.optimizer
    }

    /// - Throws: `.usage`, naming the tensor, where MindSpore has no such type, or nothing says how it is spread.
    func planned(_ mesh: ExportMesh) throws(CairnError) -> [MindFormersPlan.Tensor] {
        var planned: [MindFormersPlan.Tensor] = []
        for (number, tensor) in all.enumerated() {
            planned.append(
                .init(
                    name: tensor.name, dtype: try tensor.dtype(in: "files of MindSpore"), shape: tensor.shape,
                    layout: try mesh.layout(of: tensor, isOptimizer: number >= tensors.model.count),
                    kind: number < tensors.model.count ? .model : .optimizer))
        }
        return planned
    }

    /// Where the bytes of a slice are.
    func bytes(of piece: MindFormersPlan.Piece) throws -> OutputFile.Part {
        var tensor = all[piece.tensor]
        for (axis, range) in piece.area.enumerated() where range != 0..<tensor.shape[axis] {
            do {
                tensor = try tensor.sliced(axis: axis, range)
            } catch {
                throw CairnError(.usage, "the tensor \(tensor.name) can't be cut within a byte")
            }
        }
        return tensors.content(of: tensor)
    }

    static func checkedPrefix(_ prefix: String) throws(CairnError) -> String {
        guard (1...128).contains(prefix.utf8.count), !prefix.utf8.contains(UInt8(ascii: "/")),
            !prefix.hasPrefix("."), prefix.utf8.allSatisfy({ $0 >= 0x20 })
        else {
            throw CairnError(
                .usage,
                "'\(prefix)' can't be what names of files begin with; pass --prefix with a word such as qwen3"
            )
        }
        return prefix
    }
}

/// How far the training was, as MindSpore Transformers keeps it.
struct MindSporeProgress {
    let common: MindFormersCommon

    init(_ subject: ExportSubject) throws {
        if let common = try subject.parsed(MindFormersCommon.fileName, { try MindFormersCommon(parsing: $0) })
        {
            self.common = common
            return
        }
        let name = subject.view.files.lazy.compactMap { file in
            MindFormers1FileName(parsing: file.path.split(separator: "/").last.map(String.init) ?? "")
        }.first
        let step = Int(subject.info.step)
        let epoch = try subject.layout.inspect(subject.view).epoch.flatMap { Int(exactly: $0.rounded(.down)) }
        common = MindFormersCommon(epoch: name?.epoch ?? epoch, step: name?.step ?? step, globalStep: step)
    }
}
