// Which words of two texts differ: the longest common subsequence of words stays unmarked.

const MOST_WORDS = 700; // the table of the comparison grows with the square

function words(text) {
  return text.split(/(\s+)/).filter((piece) => piece.length > 0);
}

// true for each piece of `text` that is not in the longest common subsequence with `other`; null where they are too long.
function differing(text, other) {
  const [a, b] = [words(text), words(other)];
  if (a.length > 2 * MOST_WORDS || b.length > 2 * MOST_WORDS) return null;
  const table = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i--)
    for (let j = b.length - 1; j >= 0; j--)
      table[i][j] = a[i] === b[j] ? table[i + 1][j + 1] + 1 : Math.max(table[i + 1][j], table[i][j + 1]);
  const apart = Array(a.length).fill(true);
  for (let i = 0, j = 0; i < a.length && j < b.length; ) {
    if (a[i] === b[j]) {
      apart[i++] = false;
      j++;
    } else if (table[i + 1][j] >= table[i][j + 1]) i++;
    else j++;
  }
  return apart.map((differs, i) => differs && a[i].trim().length > 0);
}

// The text with its differing words in <mark>.
function marked(text, other) {
  const apart = other === null ? null : differing(text, other);
  if (apart === null) return [text];
  const pieces = [];
  words(text).forEach((word, i) => {
    const last = pieces.at(-1);
    if (last && last.differs === apart[i]) last.text += word;
    else pieces.push({ text: word, differs: apart[i] });
  });
  return pieces.map(({ text: piece, differs }) => (differs ? el("mark", {}, piece) : piece));
}
