internal import Cairn
internal import Glibc
internal import Platform

extension Optional {
    /// - Parameter name: that of the argument, here and below.
    /// - Throws: `usage` for NULL.
    func given(_ name: String) throws(CairnError) -> Wrapped {
        guard let self else { throw CairnError(.usage, "\(name) is NULL, and is needed here") }
        return self
    }
}

extension UnsafePointer<CChar>? {
    /// - Throws: `usage` for NULL and for what is not UTF-8.
    func text(_ name: String) throws(CairnError) -> String {
        guard let text = String(validatingCString: try given(name)) else {
            throw CairnError(.usage, "\(name) is not UTF-8")
        }
        return text
    }

    /// The same, nil for NULL.
    func optionalText(_ name: String) throws(CairnError) -> String? {
        self == nil ? nil : try text(name)
    }

    /// The name of a file or folder, which may be any bytes.
    func path(_ name: String) throws(CairnError) -> Path {
        let bytes = [UInt8](try bytes(name))
        guard !bytes.isEmpty else { throw CairnError(.usage, "\(name) is empty; give a path") }
        return Path(bytes)
    }

    func json(_ name: String) throws(CairnError) -> JSON {
        let bytes = try bytes(name)
        do throws(JSONError) {
            return try JSON(parsing: bytes, allowNonFinite: true)
        } catch {
            throw CairnError(.usage, "\(name) is not JSON: \(error)")
        }
    }

    /// A JSON array of references; none for NULL.
    func references(_ name: String) throws(CairnError) -> [String] {
        if self == nil { return [] }
        let texts = try json(name).array?.map(\.stringValue) ?? [nil]
        guard texts.allSatisfy({ $0 != nil }) else {
            throw CairnError(.usage, "\(name) is not a JSON array of texts; write it like [\"main@500\"]")
        }
        return texts.compactMap(\.self)
    }

    private func bytes(_ name: String) throws(CairnError) -> UnsafeRawBufferPointer {
        let start = try given(name)
        return UnsafeRawBufferPointer(start: start, count: strlen(start))
    }
}
