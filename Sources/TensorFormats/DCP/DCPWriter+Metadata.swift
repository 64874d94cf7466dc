extension DCPWriter {
    /// The pickle of `.metadata`. The classes and the order of their fields are PyTorch's; fields that came later, such as
    /// the id of the save and the strides, are left out, which all versions take.
    func pickledMetadata(_ items: [Item]) -> [UInt8] {
        var pickle = PickleWriter()
        pickle.object(metadataModule, "Metadata") {
            $0.dictionary(5) {
                $0.text("state_dict_metadata")
                $0.dictionary(items) {
                    $0.text($1.name)
                    $0.description(of: $1.value)
                }
                $0.text("planner_data")
                $0.dictionary(items) {
                    $0.text($1.name)
                    $0.path($1.path)
                }
                $0.text("storage_data")
                $0.dictionary(chunks(of: items)) {
                    $0.index($1.name, chunk: $1.chunk, number: $1.number)
                    $0.place($1.place, in: files[$1.place.file].name)
                }
                $0.text("storage_meta")
                $0.none()
                $0.text("version")
                $0.text("1.0.0")
            }
        }
        return pickle.finish()
    }

    /// What is written of all items, in the order of the items.
    private func chunks(of items: [Item]) -> [(name: String, chunk: Chunk?, number: Int, place: Place)] {
        zip(items, places).flatMap { item, places in
            var chunks: [Chunk?] = [nil]
            if case .tensor(let dtype, _, let all) = item.value { chunks = all.map { $0.counted(as: dtype) } }
            let name = item.name
            return zip(chunks, places).enumerated().map { (name, $1.0, $0, $1.1) }
        }
    }
}

private let metadataModule = "torch.distributed.checkpoint.metadata"

extension DCPWriter.Chunk {
    /// As PyTorch counts it.
    fileprivate func counted(as dtype: DType) -> Self {
        Self(
            offsets: dtype.torchShape(offsets) ?? offsets, sizes: dtype.torchShape(sizes) ?? sizes,
            content: content)
    }
}

extension PickleWriter {
    fileprivate mutating func description(of value: DCPWriter.Value) {
        guard case .tensor(let dtype, let shape, let chunks) = value else {
            return object(metadataModule, "BytesStorageMetadata", state: nil)
        }
        object(metadataModule, "TensorStorageMetadata") {
            $0.dictionary(3) {
                $0.text("properties")
                $0.properties(of: dtype)
                $0.text("size")
                $0.size(dtype.torchShape(shape) ?? shape)
                $0.text("chunks")
                $0.list(chunks.map { $0.counted(as: dtype) }) { pickle, chunk in
                    pickle.object(metadataModule, "ChunkStorageMetadata") {
                        $0.dictionary(2) {
                            $0.text("offsets")
                            $0.size(chunk.offsets)
                            $0.text("sizes")
                            $0.size(chunk.sizes)
                        }
                    }
                }
            }
        }
    }

    /// Type, layout, whether there is a gradient, memory format, whether the memory is pinned.
    private mutating func properties(of dtype: DType) {
        object(metadataModule, "TensorProperties") {
            $0.tuple(5) {
                $0.global("torch", dtype.torchName ?? "")
                $0.shared(0) { $0.call("torch.serialization", "_get_layout", 1) { $0.text("torch.strided") } }
                $0.bool(false)
                $0.shared(1) { $0.call(metadataModule, "_MEM_FORMAT_ENCODING", 1) { $0.integer(0 as Int64) } }
                $0.bool(false)
            }
        }
    }

    /// A `torch.Size`.
    private mutating func size(_ shape: [UInt64]) {
        call("torch", "Size", 1) {
            $0.tuple(shape.count) { for length in shape { $0.integer(length) } }
        }
    }

    fileprivate mutating func path(_ path: [DCPWriter.Key]) {
        tuple(path.count) {
            for key in path {
                switch key {
                case .name(let name): $0.text(name)
                case .index(let index): $0.integer(Int64(index))
                }
            }
        }
    }

    /// What an item is found by: its name, and for a chunk its place in the tensor and its number.
    fileprivate mutating func index(_ name: String, chunk: DCPWriter.Chunk?, number: Int) {
        object(metadataModule, "MetadataIndex") {
            $0.dictionary(chunk == nil ? 2 : 3) {
                $0.text("fqn")
                $0.text(name)
                $0.text("index")
                guard let chunk else { return $0.none() }
                $0.integer(Int64(number))
                $0.text("offset")
                $0.size(chunk.offsets)
            }
        }
    }

    fileprivate mutating func place(_ place: DCPWriter.Place, in file: String) {
        object("torch.distributed.checkpoint.filesystem", "_StorageInfo") {
            $0.dictionary(3) {
                $0.text("relative_path")
                $0.text(file)
                $0.text("offset")
                $0.integer(place.offset)
                $0.text("length")
                $0.integer(place.length)
            }
        }
    }
}
