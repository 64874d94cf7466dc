extension SafetensorsHeader {
    /// How many bytes from the start of the file make up the header, with its length: 8 + N.
    ///
    /// - Parameters:
    ///   - prefix: the first 8 bytes of the file, or all of a shorter one.
    ///   - fileSize: the size of the file in bytes.
    /// - Throws: `TensorFileError` if this cannot be a safetensors file.
    public static func headerLength(prefix: [UInt8], fileSize: UInt64) throws(TensorFileError) -> Int {
        guard fileSize >= 8, prefix.count >= 8 else {
            throw TensorFileError(
                .truncatedHeader, "The file is shorter than the 8 bytes of a header's length.")
        }
        let length = prefix[0..<8].reversed().reduce(0 as UInt64) { $0 << 8 | UInt64($1) }
        guard length <= maximumLength else {
            throw TensorFileError(
                .headerTooLarge,
                "The header is said to have \(length) bytes, more than the \(maximumLength) that are allowed."
            )
        }
        guard length <= fileSize - 8 else {
            throw TensorFileError(
                .truncatedHeader,
                "The header is said to have \(length) bytes, but the file has only \(fileSize - 8) behind its length."
            )
        }
        return 8 + Int(length)
    }

    /// Reads a header and checks that its tensors tile the file.
    ///
    /// - Parameters:
    ///   - bytes: the first 8 + N bytes of the file (`headerLength(prefix:fileSize:)`); more are ignored.
    ///   - fileSize: the size of the file in bytes.
    /// - Throws: `TensorFileError` for every file that the reference rejects, and for duplicate tensor names.
    /// - Complexity: linear in the header, and n log n where the tensors are not in the order of their data.
    public init(parsing bytes: [UInt8], fileSize: UInt64) throws(TensorFileError) {
        let length = try Self.headerLength(prefix: bytes, fileSize: fileSize)
        guard bytes.count >= length else {
            throw TensorFileError(
                .truncatedHeader, "Only \(bytes.count) of the header's \(length) bytes were read.")
        }
        var entries = SafetensorsEntries()
        do {
            var lexer = try JSONLexer(bytes.count == length ? bytes : Array(bytes[..<length]), from: 8)
            try entries.read(from: &lexer)
            try lexer.expectEnd()
        } catch {
            throw TensorFileError(error)
        }
        if let name = entries.duplicate {
            throw TensorFileError(.duplicateName, "Two tensors have the name \(name.quoted).")
        }
        tensors = entries.tensors.inDataOrder()
        metadata = entries.metadata
        headerLength = length
        try checkExtents(fileSize: fileSize)
    }

    /// That the tensors follow each other without holes from 0 to the end of the file, each as long as its type and
    /// shape say.
    private func checkExtents(fileSize: UInt64) throws(TensorFileError) {
        var position: UInt64 = 0
        for tensor in tensors {
            guard tensor.begin == position, tensor.end >= tensor.begin else {
                throw TensorFileError(
                    .invalidExtent,
                    "The tensor \(tensor.name.quoted) has bytes \(tensor.begin) to \(tensor.end) of the data, "
                        + "but must begin at byte \(position), where the tensor before it ends.")
            }
            position = tensor.end
            guard let bits = tensor.dtype.bitCount(shape: tensor.shape) else {
                throw TensorFileError(
                    .invalidExtent, "The shape of the tensor \(tensor.name.quoted) is beyond 64 bits.")
            }
            guard bits % 8 == 0 else {
                throw TensorFileError(
                    .invalidExtent,
                    "The tensor \(tensor.name.quoted) has \(bits) bits, which are not whole bytes.")
            }
            guard tensor.byteCount == bits / 8 else {
                throw TensorFileError(
                    .invalidExtent,
                    "The tensor \(tensor.name.quoted) has \(tensor.byteCount) bytes of data, but its type and shape "
                        + "need \(bits / 8).")
            }
        }
        let dataLength = fileSize - UInt64(headerLength)
        guard position == dataLength else {
            throw TensorFileError(
                .wrongFileSize,
                "The tensors take \(position) bytes, but the file has \(dataLength) behind its header.")
        }
    }
}

extension [SafetensorsTensor] {
    /// Sorted by extent. Sorting indices makes it stable: empty tensors may share an extent.
    fileprivate func inDataOrder() -> [SafetensorsTensor] {
        func precedes(_ a: Int, _ b: Int) -> Bool {
            (self[a].begin, self[a].end, a) < (self[b].begin, self[b].end, b)
        }
        // The reference's own files are in order, and so is nearly every other.
        if indices.dropFirst().allSatisfy({ precedes($0 - 1, $0) }) { return self }
        return indices.sorted(by: precedes).map { self[$0] }
    }
}
